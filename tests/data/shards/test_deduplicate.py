import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.shards.deduplicate import ExactDuplicates, NearDuplicates


@given(st.lists(st.text(max_size=2)))
def test_exact_duplicates_are_those_of_a_set(texts):
    finder, seen = ExactDuplicates(), set()
    for text in texts:
        assert finder.add(finder.fingerprint(text)) == (text in seen)
        seen.add(text)


def test_the_table_grows_and_stays_small():
    finder = ExactDuplicates()
    digests = [finder.fingerprint(str(i)) for i in range(20_000)]
    assert not any(finder.add(digest) for digest in digests)
    assert all(finder.add(digest) for digest in digests)
    assert len(finder._table) <= 16 * len(digests) * 2 / 0.75


@pytest.mark.parametrize(("num_changed", "is_near"), [(0, True), (2, True), (100, False)])
def test_near_duplicates_share_most_of_their_words(num_changed, is_near):
    words = [f"word{i}" for i in range(300)]
    changed = [f"new{i}" for i in range(num_changed)] + words[num_changed:]
    finder = NearDuplicates(0.8)
    assert not finder.add(finder.fingerprint(" ".join(words)))
    assert finder.add(finder.fingerprint(" ".join(changed))) == is_near


def test_near_duplicates_of_short_texts():
    finder = NearDuplicates(0.8)
    for text in ("one", "two", "one two"):
        assert not finder.add(finder.fingerprint(text))
    assert finder.add(finder.fingerprint("two"))
