import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.samples.corpus import open_corpora, text_hashes
from tests.tasks.numbered import shards_of

texts = st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=20)


def hashes_of(texts, width, filler):
    tokens = np.full((len(texts), width), filler)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return text_hashes(tokens, np.array([len(text) for text in texts])).tolist()


@given(texts, st.integers(5, 9), st.integers(0, 3))
def test_equal_texts_and_no_others_have_equal_hashes(texts, width, filler):
    hashes = hashes_of(texts, width, filler)
    assert hashes == hashes_of(texts, 5, 0)
    assert len(set(hashes)) == len(set(map(tuple, texts)))
    assert min(hashes) >= 0


def test_hashes_of_many_texts_are_spread_and_differ():
    tokens = np.random.default_rng(0).integers(0, 1 << 17, (50_000, 3))
    hashes = text_hashes(tokens, np.full(50_000, 3))
    assert len(np.unique(hashes)) == len(np.unique(tokens, axis=0))
    assert abs(np.mean(hashes.astype(float)) / 2.0**63 - 0.5) < 0.01


def test_a_document_longer_than_a_window_is_known_by_its_beginning_and_length():
    documents = [
        [*range(10)],
        [*range(4), 99, *range(5, 10)],
        [*range(5), 99, *range(6, 10)],
        [*range(9)],
        [*range(3)],
        [*range(3)],
    ]
    starts = np.cumsum([0, *map(len, documents)])
    shards = shards_of("set", starts, np.concatenate(documents))
    corpus, _ = open_corpora([shards, shards], None, window=5, seed=0, num_held_out=0)
    numbers = np.arange(len(documents))
    one, other = (corpus.document_hashes(np.full_like(numbers, n), numbers) for n in (0, 1))
    assert np.array_equal(one, other)
    first, differs_within, differs_behind, shorter, short, equal = one
    assert first == differs_behind
    assert short == equal
    assert len({first, differs_within, shorter, short}) == 4
    windows = corpus.cut(np.array([0]), numbers[4:5], starts[4:5])
    assert text_hashes(windows.tokens, windows.lengths) == short
