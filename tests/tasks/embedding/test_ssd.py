from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.config.tasks import SsdOptions
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses.ssd import mean_similarities
from kl3m_embeddings.tasks.embedding.ssd import SameSimilarDifferent
from tests.tasks.numbered import assert_pure, places_of, source_of

document_lengths = st.lists(st.integers(1, 90), min_size=1, max_size=6)


def ssd(max_length=16, **options):
    return SameSimilarDifferent(SsdOptions(probability=1.0, **options), max_length)


@settings(max_examples=25)
@given(
    st.lists(document_lengths, min_size=2, max_size=4),
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(0, 10**6),
)
def test_texts_stand_where_their_kind_says(datasets, max_length, seq_len, first):
    source = source_of(datasets, max_length=max_length)
    columns = ssd(max_length, seq_len=seq_len).columns(source, first, 16)
    windows = source.corpus.locate(first, 16)
    num_fallback = 0
    for row, (a, same, b, c) in enumerate(zip(*places_of(source, columns), strict=True)):
        dataset, document = int(windows.datasets[row]), int(windows.documents[row])
        length = datasets[dataset][document]
        full = min(seq_len - 2, length)
        assert a[:2] == same[:2] == (dataset, document)
        assert a[3] - a[2] == full
        has_room = max(a[2], length - a[3]) >= full / 2
        has_other = len(datasets[dataset]) > 1
        if has_room:
            assert same[3] <= a[2] or same[2] >= a[3]
            expected = min(full, max(a[2], length - a[3]))
            assert same[3] - same[2] == expected
        else:
            assert_is_part(same, a, full)
        assert b[0] == dataset
        if has_other:
            assert b[1] != document
            assert b[3] - b[2] == min(seq_len - 2, datasets[dataset][b[1]])
        else:
            assert_is_part(b, a, full)
        assert c[0] != dataset
        assert c[3] - c[2] == min(seq_len - 2, datasets[c[0]][c[1]])
        num_fallback += not (has_room and has_other)
    assert columns.num_fallback == num_fallback


def assert_is_part(part, text, full):
    """Of the same document, at least half as long, and not the same text if that can be."""
    assert part[:2] == text[:2]
    assert full / 2 <= part[3] - part[2] <= max(full - 1, 1)
    assert part != text or full == 1


def test_a_sample_does_not_depend_on_its_batch():
    assert_pure(ssd, source_of([[1, 40, 99, 7], [60, 3], [33]]))


def test_every_window_of_every_other_document_is_as_likely():
    source = source_of([[140, 42, 14], [50] * 200], weights=[1.0, 4.0])
    windows = [10, 3, 1]
    places = list(zip(*places_of(source, ssd().columns(source, 0, 4000)), strict=True))
    for document in range(3):
        others = [b[1] for a, _, b, _ in places if a[:2] == (0, document)]
        expected = np.array([0 if n == document else size for n, size in enumerate(windows)])
        shares = np.bincount(others, minlength=3) / len(others)
        assert shares == pytest.approx(expected / expected.sum(), abs=0.1)
    others = np.bincount([c[1] for *_, c in places if c[0] == 1], minlength=200)
    assert others.reshape(10, 20).sum(axis=1) == pytest.approx(80, rel=0.4)
    others = np.bincount([b[1] for *_, b, _ in places if b[0] == 1], minlength=200)
    assert others.reshape(10, 20).sum(axis=1) == pytest.approx(320, rel=0.2)


def test_every_text_beside_the_first_is_as_likely():
    source = source_of([[58] * 400, [9]], weights=[99.0, 1.0])
    columns = places_of(source, ssd().columns(source, 0, 4000))
    texts = [(a[2], same[2]) for a, same in zip(*columns[:2], strict=True) if a[0] == 0]
    assert {first for first, _ in texts} == {0, 11, 22, 33, 44}  # the windows
    starts = np.bincount([start for first, start in texts if first == 22], minlength=45)
    possible = (np.arange(45) <= 8) | (np.arange(45) >= 36)
    assert (starts[~possible] == 0).all()
    assert starts[possible] == pytest.approx(800 / 18, rel=0.5)


def test_other_datasets_have_their_weights():
    source = source_of([[50] * 200, [50] * 40, [20] * 100], weights=[6.0, 1.0, 3.0])
    places = places_of(source, ssd().columns(source, 0, 4000))
    for dataset, expected in enumerate(([0, 1 / 4, 3 / 4], [6 / 9, 0, 3 / 9], [6 / 7, 1 / 7, 0])):
        others = [c[0] for a, _, _, c in zip(*places, strict=True) if a[0] == dataset]
        shares = np.bincount(others, minlength=3) / len(others)
        assert shares == pytest.approx(expected, abs=0.06)


def test_one_dataset_is_an_error_that_names_the_remedy():
    with pytest.raises(ConfigError, match="there is set0 only: name a second one in data, or tr"):
        ssd().columns(source_of([[50, 50]]), 0, 4)


def test_held_out_documents_never_appear():
    source = source_of([[30] * 40, [20] * 40], num_held_out=4)
    held_out = {
        (dataset, document)
        for dataset, index in enumerate(source.corpus.indices)
        for document in np.flatnonzero(np.diff(index.first_windows) == 0).tolist()
    }
    assert len(held_out) == 4
    places = list(chain(*places_of(source, ssd().columns(source, 0, 2000))))
    assert {place[:2] for place in places} == {
        (dataset, document) for dataset in range(2) for document in range(40)
    } - held_out


def test_the_log_names_all_that_was_read():
    source = source_of([[30] * 5, [40] * 6])
    columns = ssd().columns(source, 0, 3)
    seen = {f"set{place[0]}-{place[1]}" for place in chain(*places_of(source, columns))}
    assert set(columns.documents["set0"]) | set(columns.documents["set1"]) == seen
    expected = [[place[0] for place in column] for column in places_of(source, columns)]
    assert np.array_equal(columns.datasets, expected)


def test_measures_are_the_losss_own(make_sources):
    task = ssd(32)
    batch = task.batch(make_sources()[0], 0, 5)
    assert batch.input_ids.shape[0] == 20
    vectors = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    measures = task.measures(vectors, batch.pair_targets)
    assert set(measures) == {"mean_sim_same", "mean_sim_similar", "mean_sim_diff"}
    assert measures == mean_similarities(vectors, task.similarity)
    assert task.loss(vectors, batch.pair_targets).isfinite()
