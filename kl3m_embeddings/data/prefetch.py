"""Makes the next items while the current one is used: one thread, a bounded queue.

Neither side may wait for the other for ever. The end, or an error, comes through the queue like an
item; a thread that waits for room in it looks every POLL_S whether anybody still takes items.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
POLL_S = 0.1


class _End(Generic[Item]):
    """What ended the making of items: an error, or None at their end."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def prefetched(items: Iterator[Item], depth: int = 2) -> Iterator[Iterator[Item]]:
    """Iterate over `items`, up to `depth` ahead; an error in making one is raised where due."""
    ready: queue.Queue[Item | _End[Item]] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(
        target=_make, args=(items, ready, stopped), name="prefetch", daemon=True
    )
    thread.start()
    try:
        yield _take(ready)
    finally:
        stopped.set()
        thread.join()


def _make(
    items: Iterator[Item], ready: "queue.Queue[Item | _End[Item]]", stopped: threading.Event
) -> None:
    """What the thread does: items into the queue, and last how they ended."""
    try:
        for item in items:
            if not _put(ready, item, stopped):
                return
        _put(ready, _End(None), stopped)
    except BaseException as error:  # noqa: BLE001 - carried to the thread that waits for the item
        _put(ready, _End(error), stopped)


def _put(
    ready: "queue.Queue[Item | _End[Item]]",
    item: Item | _End[Item],
    stopped: threading.Event,
) -> bool:
    """Wait for room; False if nobody takes items any more."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=POLL_S)
        except queue.Full:
            continue
        return True
    return False


def _take(ready: "queue.Queue[Item | _End[Item]]") -> Iterator[Item]:
    """The items out of the queue, as they were made; raises the error that ended them."""
    while True:
        item = ready.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item
