import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.pair_sets.clashes import SharedTexts, clashing_places, separate


@given(st.integers(2, 6), st.integers(1, 5), st.data())
def test_separating_keeps_the_rows_and_mends_what_it_can(num_batches, batch_size, data):
    num_rows = num_batches * batch_size
    texts = np.array(data.draw(st.lists(st.integers(0, 30), min_size=num_rows, max_size=num_rows)))
    rows = np.arange(num_rows)
    shared = SharedTexts.build(rows, texts, num_rows)
    before = np.array(data.draw(st.permutations(range(num_rows)))).reshape(num_batches, -1)
    after = separate(before, shared, data.draw(st.integers(0, 99)))
    assert sorted(after.flat) == rows.tolist()
    assert len(clashing_places(after, shared)) <= len(clashing_places(before, shared))
    expected = sum(batch_size - len(set(texts[batch])) for batch in after)
    assert len(clashing_places(after, shared)) == expected


def test_rows_without_clashes_stay_where_they_are():
    shared = SharedTexts.build(np.arange(6), np.array([0, 1, 2, 0, 1, 2]), 6)
    batches = np.array([[0, 1, 2], [5, 4, 3]])
    assert np.array_equal(separate(batches, shared, 1), batches)


def test_of_a_row_come_the_texts_that_others_have_too():
    """Numbered anew, in the order of their ids: 3 is 0, 7 is 1; 5 is row 1's alone."""
    rows, texts = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([7, 3, 5, 7, 3, 3, 7])
    shared = SharedTexts.build(rows, texts, 4)
    assert shared.num_texts == 2
    assert [shared.of(row) for row in range(4)] == [[0, 1], [1], [0, 1], []]


def test_a_clash_is_a_text_of_a_row_before_in_the_batch():
    shared = SharedTexts.build(np.arange(6), np.array([0, 0, 1, 0, 1, 2]), 6)
    assert clashing_places(np.array([[1, 2, 0], [4, 5, 3]]), shared).tolist() == [2]
    assert clashing_places(np.array([[0, 1, 3], [2, 4, 5]]), shared).tolist() == [1, 2, 4]
