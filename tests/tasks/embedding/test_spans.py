"""Spans of a corpus whose every token is its own place (see `numbered`)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.samples.corpus import Spans
from kl3m_embeddings.tasks.embedding.spans import (
    below,
    passages,
    spans_within,
    text_columns,
    where,
)
from tests.tasks.numbered import DATASET_SIZE, source_of, texts_of

COUNT = 40
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=6)


def uniforms(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def test_uniforms_become_whole_numbers_below_the_counts():
    assert below(np.array([0.0, 0.49, 0.5, 0.999999]), np.array([2, 2, 2, 7])).tolist() == [
        0, 0, 1, 6
    ]  # fmt: skip
    counts = np.bincount(below(uniforms(9000), np.full(9000, 3)))
    assert counts == pytest.approx(3000, rel=0.1)


@given(LENGTHS, st.integers(4, 30), st.none() | st.integers(1, 60), st.integers(0, 9))
def test_a_passage_holds_its_window_or_lies_in_it(lengths, max_length, size, seed):
    corpus = source_of([lengths], max_length=max_length).corpus
    windows = corpus.locate(0, COUNT)
    found = passages(corpus, windows, uniforms(COUNT, seed=seed), size)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for row in range(COUNT):
        document = int(windows.documents[row])
        assert found.documents[row] == document
        first, last = starts[document : document + 2]
        start, end = found.starts[row], found.starts[row] + found.lengths[row]
        assert first <= start < end <= last
        assert end - start == min(size or last - first, last - first)
        window = (windows.starts[row], windows.starts[row] + windows.lengths[row])
        outer, inner = sorted([(start, end), window], key=lambda one: one[0] - one[1])
        assert outer[0] <= inner[0] and inner[1] <= outer[1]


@given(st.lists(st.integers(1, 80), min_size=1, max_size=20), st.integers(1, 20), st.data())
def test_a_span_is_within_its_passage_and_half_of_it_at_most(lengths, shortest, data):
    longest = data.draw(st.integers(shortest, 40))
    count = len(lengths)
    starts = np.arange(count) * 100
    whole = Spans(np.zeros(count, int), np.arange(count), starts, np.array(lengths))
    found = spans_within(whole, uniforms(2, count), shortest, longest)
    for row, length in enumerate(lengths):
        most = min(max(length // 2, 1), longest)
        assert min(shortest, most) <= found.lengths[row] <= most
        assert starts[row] <= found.starts[row]
        assert found.starts[row] + found.lengths[row] <= starts[row] + length
    assert np.array_equal(found.documents, whole.documents)


def test_every_length_and_place_of_a_span_comes_about():
    count = 4000
    whole = Spans(*(np.zeros(count, int) for _ in range(3)), np.full(count, 8))
    found = spans_within(whole, uniforms(2, count), 2, 9)
    assert set(found.lengths.tolist()) == {2, 3, 4}
    assert {(a, b) for a, b in zip(found.starts.tolist(), found.lengths.tolist(), strict=True)} == {
        (start, length) for length in (2, 3, 4) for start in range(9 - length)
    }


def test_some_spans_are_replaced():
    one = Spans(*(np.arange(4) for _ in range(4)))
    other = Spans(*(np.arange(4) + 10 for _ in range(4)))
    found = where(np.array([True, False, False, True]), one, other)
    assert all(part.tolist() == [0, 11, 12, 3] for part in found)


def test_columns_are_the_tokens_of_their_spans_by_dataset():
    source = source_of([[10, 10], [30]])
    first = Spans(np.array([0, 1]), np.array([1, 0]), np.array([12, 4]), np.array([3, 1]))
    second = Spans(np.array([0, 0]), np.array([0, 0]), np.array([2, 2]), np.array([2, 2]))
    found = text_columns(source.corpus, [first, second], num_fallback=1)
    assert texts_of(found) == [[[12, 13, 14], [DATASET_SIZE + 4]], [[2, 3], [2, 3]]]
    assert found.datasets.tolist() == [[0, 1], [0, 0]]
    assert found.documents == {"set0": ["set0-1", "set0-0"], "set1": ["set1-0"]}
    assert found.num_fallback == 1
    ids = found.text_groups
    assert ids[1, 0] == ids[1, 1]
    assert len(np.unique(ids)) == 3
    named = text_columns(source.corpus, [first, second], groups=np.array([5, 6]))
    assert named.text_groups.tolist() == [[5, 6], [5, 6]]
