import threading
import time

import pytest

from kl3m_embeddings.data.prefetch import prefetched


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_complete_and_in_order():
    with prefetched(iter(range(500))) as ready:
        assert list(ready) == list(range(500))
    assert not prefetch_threads()


def test_items_are_made_ahead_but_no_further_than_the_depth():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with prefetched(items(), depth=3) as ready:
        assert next(ready) == 0
        deadline = time.monotonic() + 10
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 5  # one taken, three waiting, one in hand


def test_items_are_made_in_one_other_thread():
    threads = set()

    def items():
        for number in range(20):
            threads.add(threading.get_ident())
            yield number

    with prefetched(items()) as ready:
        list(ready)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_comes_where_its_item_was_due():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    with prefetched(items()) as ready:
        assert [next(ready), next(ready)] == [1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(ready)
    assert not prefetch_threads()


def test_leaving_early_ends_the_thread():
    def endless():
        while True:
            yield 0

    with prefetched(endless()) as ready:
        next(ready)
    assert not prefetch_threads()


def test_an_error_of_the_user_ends_the_thread():
    with pytest.raises(KeyError), prefetched(iter(range(100))):
        raise KeyError
    assert not prefetch_threads()
