import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from kl3m_embeddings.config.tasks import SimcseOptions
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.tasks.embedding.simcse import SimCSE
from kl3m_embeddings.tasks.objective import Objective
from tests.tasks.numbered import (
    assert_pure,
    numbered_shards,
    places_of,
    shards_of,
    source_of,
    texts_of,
)
from tests.tiny_model import TINY_CONFIG


def simcse(max_length=16, **options):
    return SimCSE(SimcseOptions(probability=1.0, **options), max_length)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=8), st.integers(8, 40), st.integers(8, 60))
def test_both_columns_are_one_text_at_the_samples_window(lengths, max_length, seq_len):
    source = source_of([lengths], max_length=max_length)
    columns = simcse(max_length, seq_len=seq_len).columns(source, 3, 16)
    windows = source.corpus.locate(3, 16)
    one, other = places_of(source, columns)
    assert one == other
    assert np.array_equal(*columns.text_groups)
    for row, (_, document, start, end) in enumerate(one):
        assert document == windows.documents[row]
        assert end - start == min(seq_len - 2, lengths[document])
        first = windows.starts[row] - source.corpus.indices[0].shards.document_starts[document]
        last = first + windows.lengths[row]
        assert (first <= start and end <= last) or (start <= first and last <= end)


def test_by_default_texts_are_the_windows():
    source = source_of([[1, 40, 99, 7], [60, 3]])
    windows = source.corpus.windows(0, 40)
    columns = simcse().columns(source, 0, 40)
    assert np.array_equal(columns.tokens, [windows.tokens, windows.tokens])
    assert columns.num_fallback == 0


def test_a_sample_does_not_depend_on_its_batch():
    assert_pure(lambda: simcse(seq_len=9), source_of([[1, 40, 99, 7], [60, 3]]))


def test_short_texts_are_taken_from_all_of_a_window():
    source = source_of([[100] * 50], max_length=102)
    (spans, _) = places_of(source, simcse(102, seq_len=12).columns(source, 0, 2000))
    starts = np.bincount([start for _, _, start, _ in spans], minlength=91)
    assert len(starts) == 91
    assert starts.min() > 0
    assert starts.mean() == pytest.approx(starts[45:].mean(), rel=0.1)


def test_only_equal_texts_have_one_id():
    """Two texts of a document are negatives of each other; a repeated one is not."""
    first = numbered_shards("first", [100, 5])
    second = shards_of("second", np.array([0, 5, 12]), np.arange(100, 112))
    source = source_of([first, second])
    columns = simcse().columns(source, 0, 200)
    ids = {}
    for text, number in zip(texts_of(columns)[0], columns.text_groups[0].tolist(), strict=True):
        ids.setdefault(tuple(text), set()).add(number)
    assert all(len(one) == 1 for one in ids.values())
    assert len(set.union(*ids.values())) == len(ids) == 8 + 1 + 1


@pytest.mark.parametrize("drops", [False, True])
def test_only_dropout_tells_the_two_rows_of_a_text_apart(make_sources, drops):
    task = simcse(32)
    batch = task.batch(make_sources()[0], 0, 4)
    if drops:
        batch = batch.with_dropout(5, 0, 4)
    assert torch.equal(batch.input_ids[:4], batch.input_ids[4:])
    encoder = build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0)
    objective = Objective(encoder, pair_head=False, losses={"simcse": task.loss})
    engine = SingleEngine(objective, [], device=torch.device("cpu"), precision="float32")
    vectors = engine.forward(batch).embeddings
    distances = (vectors[:4] - vectors[4:]).norm(dim=1)
    assert (distances > 0.01 if drops else distances < 1e-5).all()
    measures = task.measures(vectors.detach().view(2, 4, -1), batch.pair_targets)
    assert measures["mean_sim_positive"] > measures["mean_sim_negative"]
