import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.evaluation.held_out_text import (
    distribution,
    draw_samples,
    sample_losses,
    write_samples,
)
from kl3m_embeddings.tasks.objective import Objective
from tests.evaluation.held_out import MLM, never
from tests.tiny_model import TINY_CONFIG


def test_evaluations_of_the_same_weights_agree(engine, evaluator):
    first = evaluator.evaluate(engine, never)
    torch.manual_seed(5)
    assert evaluator.evaluate(engine, never) == first
    assert first["num_samples"] == 10
    assert first["mean"] == pytest.approx(np.log(320), rel=0.05)


def test_the_size_of_the_batches_does_not_matter(engine, make_sources, evaluator):
    whole = draw_samples(make_sources()[1], MLM, num_samples=10, batch_size=10)
    one, other = (drawn.evaluate(engine, never) for drawn in (evaluator, whole))
    assert one == pytest.approx(other, rel=1e-5)


def test_a_stop_ends_the_evaluation(engine, evaluator):
    answers = iter([False, True])
    assert evaluator.evaluate(engine, lambda: next(answers)) is None


def test_samples_are_drawn_from_held_out_documents_with_masks_fixed(make_sources, tmp_path):
    train, held_out = make_sources()
    texts = []
    for number in (1, 2):
        drawn = draw_samples(held_out, MLM, num_samples=10, batch_size=4)
        assert not any(batch.trains for batch in drawn.batches)
        write_samples(drawn, tmp_path / f"{number}.jsonl")
        texts.append((tmp_path / f"{number}.jsonl").read_bytes())
    assert texts[0] == texts[1]
    windows = train.corpus.windows(0, 3000)
    trained = train.corpus.document_ids(windows)
    rows = [json.loads(line) for line in texts[0].splitlines()]
    assert len(rows) == 10
    for row in rows:
        assert row["document"] not in trained[row["dataset"]]
        assert len(row["target_positions"]) == len(row["target_ids"]) > 0


def test_losses_of_a_sample_are_the_mean_of_its_targets(evaluator):
    batch = evaluator.batches[0]
    values = torch.arange(len(batch.target_labels), dtype=torch.float32)
    rows = (batch.target_positions // batch.input_ids.shape[1]).numpy()
    labelled = (batch.target_labels >= 0).numpy()
    expected = [values.numpy()[labelled & (rows == row)].mean() for row in range(4)]
    assert sample_losses(batch, values) == pytest.approx(expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_null(value):
    row = distribution(np.array([1.0, value, 2.0]))
    assert row["mean"] is None
    assert row["num_samples"] == 3
    json.dumps(row, allow_nan=False)


def test_samples_of_similar_length_together_have_the_same_losses(make_sources):
    evaluation = draw_samples(make_sources(max_length=320)[0], MLM, num_samples=22, batch_size=4)
    encoder = build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0)
    engine = SingleEngine(
        Objective(encoder, pair_head=False), [], device=torch.device("cpu"), precision="float32"
    )
    losses, places = [], []
    for batches in (evaluation.batches, evaluation.by_length):
        of_all = [
            sample_losses(batch, engine.forward(batch, grad=False).target_losses)
            for batch in batches
        ]
        losses.append(np.sort(np.concatenate(of_all)))
        places.append(sum(batch.input_ids.numel() for batch in batches))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert len(losses[0]) == 22
    assert places[1] < places[0]
