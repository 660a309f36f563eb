from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.samples.corpus import WindowIndex, open_corpora, text_hashes
from kl3m_embeddings.errors import DataError
from tests.tasks.numbered import shards_of


@pytest.fixture(scope="module")
def index_of(tiny_shards):
    """A function that indexes documents of the given lengths."""

    def build(lengths, window, chosen=None):
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        chosen = np.ones(len(lengths), dtype=bool) if chosen is None else np.array(chosen)
        return WindowIndex.build(with_starts(tiny_shards["statutes"], starts), window, chosen)

    return build


def with_starts(shards, starts):
    return replace(shards, document_starts=starts, num_documents=len(starts) - 1)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(1, 15))
def test_windows_cover_every_token_and_stay_inside_their_document(index_of, lengths, window):
    index = index_of(lengths, window)
    documents, starts = index.locate(np.arange(index.num_windows))
    covered = np.zeros(sum(lengths), dtype=int)
    for document, start in zip(documents, starts, strict=True):
        first, last = index.shards.document_starts[document : document + 2]
        assert first <= start < last
        covered[start : min(start + window, last)] += 1
    assert (covered >= 1).all()
    assert index.num_windows == sum(-(-length // window) for length in lengths)


@given(st.integers(1, 500), st.integers(1, 30))
def test_windows_of_a_long_document_are_full_distinct_and_evenly_spread(index_of, length, window):
    index = index_of([length], window)
    _, starts = index.locate(np.arange(index.num_windows))
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == max(length - window, 0)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_documents_that_are_not_chosen_give_no_window(index_of):
    index = index_of([5, 9, 4, 0, 7], 3, [True, False, False, True, True])
    documents, _ = index.locate(np.arange(index.num_windows))
    assert documents.tolist() == [0, 0, 4, 4, 4]


def test_a_window_is_the_documents_own_tokens(make_sources):
    corpus = make_sources()[0].corpus
    windows = corpus.windows(0, 300)
    for row in range(300):
        shards = corpus.indices[windows.datasets[row]].shards
        tokens = shards.document_tokens(int(windows.documents[row]))
        offset = windows.starts[row] - shards.document_starts[windows.documents[row]]
        length = windows.lengths[row]
        assert length == min(corpus.window, len(tokens) - offset)
        assert np.array_equal(windows.tokens[row, :length], tokens[offset : offset + length])
        assert not windows.tokens[row, length:].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_documents_are_never_trained_on(make_sources, seed):
    train, held_out = (source.corpus for source in make_sources(seed=seed))
    sizes = [index.num_windows for index in train.indices]
    seen = documents_of(train.windows(0, 2 * sum(sizes)))
    tested = documents_of(held_out.windows(0, 200))
    assert not seen & tested
    assert {dataset for dataset, _ in tested} == {0, 1}
    assert len(seen) + len(tested) == 120  # and no document is lost


def documents_of(windows):
    return set(zip(windows.datasets.tolist(), windows.documents.tolist(), strict=True))


def test_held_out_documents_differ_by_seed_and_are_at_most_a_twentieth(make_sources):
    tested = [
        documents_of(make_sources(seed=seed, num_held_out=1000)[1].corpus.windows(0, 200))
        for seed in (0, 1)
    ]
    assert tested[0] != tested[1]
    assert len(tested[0]) == 2 * 3


def test_none_are_held_out_when_none_are_wanted(make_sources):
    train, held_out = make_sources(num_held_out=0)
    assert held_out is None
    assert len(documents_of(train.corpus.windows(0, 4000))) == 120


def test_documents_held_out_do_not_depend_on_the_window(make_sources):
    tested = [documents_of(make_sources(max_length=n)[1].corpus.windows(0, 300)) for n in (16, 64)]
    assert tested[0] == tested[1]


def test_without_weights_datasets_come_by_size_and_with_them_by_weight(make_sources):
    for weights in (None, [3.0, 1.0]):
        corpus = make_sources(weights=weights)[0].corpus
        sizes = weights or [index.num_windows for index in corpus.indices]
        datasets = corpus.windows(0, 1 << 14).datasets
        share = (datasets == 0).mean()
        assert share == pytest.approx(sizes[0] / sum(sizes), abs=1e-3)


@settings(max_examples=20)
@given(st.integers(0, 2**41), st.integers(1, 30), st.data())
def test_samples_are_a_pure_function_of_their_numbers(make_sources, first, count, data):
    corpus = make_sources()[0].corpus
    windows = corpus.windows(first, count)
    offset = data.draw(st.integers(0, count - 1))
    one = corpus.windows(first + offset, 1)
    assert np.array_equal(one.tokens[0], windows.tokens[offset])
    assert one.starts[0] == windows.starts[offset]


def test_document_ids_are_the_sources_in_order_of_appearance(make_sources):
    corpus = make_sources()[0].corpus
    windows = corpus.windows(0, 40)
    ids = corpus.document_ids(windows)
    for number, name in enumerate(corpus.names):
        documents = windows.documents[windows.datasets == number]
        assert ids[name] == [f"doc-{one}" for one in dict.fromkeys(documents.tolist())]


def test_a_dataset_without_tokens_is_an_error(tiny_shards):
    empty = with_starts(tiny_shards["statutes"], np.zeros(61, dtype=np.int64))
    with pytest.raises(DataError, match="statutes has no text to train on"):
        open_corpora([empty], None, window=30, seed=0, num_held_out=3)


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
