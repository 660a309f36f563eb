import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, DebertaV2ForMaskedLM

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.evaluation.evaluator import spectra
from kl3m_embeddings.evaluation.held_out_text import (
    distribution,
    draw_samples,
    sample_losses,
    write_samples,
)
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.objective import Objective
from tests.tiny_model import TINY_CONFIG

# whole words: samples differ in their number of targets
MLM = MaskedLanguageModelling(MlmOptions(probability=1.0, masking="word"))


@pytest.fixture
def engine():
    objective = Objective(
        build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0), pair_head=False
    )
    optimizers = build_optimizers(objective.named_parameters(), OptimizerConfig(total_steps=1))
    return SingleEngine(objective, optimizers, device=torch.device("cpu"), precision="float32")


@pytest.fixture
def evaluator(make_sources):
    return draw_samples(make_sources()[1], MLM, num_samples=10, batch_size=4)


def never():
    return False


def test_evaluation_leaves_the_random_numbers_as_they_were(engine, evaluator):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    evaluator.evaluate(engine, never)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert not any(p.grad is not None for p in engine.objective.parameters())


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


def test_the_row_is_the_loss_of_plain_transformers_on_the_written_samples(make_model_folder):
    """From the exported checkpoint and eval_samples.jsonl alone, by other people's code."""
    folder = make_model_folder(
        num_eval_samples=9,
        tasks={"mlm": {"probability": 1.0, "masking": "word"}},
        optimizer={"total_steps": 3, "warmup_steps": 1, "peak_lr": 1e-2},
    )
    assert main([str(folder), "--quiet"]) == 0
    row = json.loads((folder / "eval.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 3
    model = DebertaV2ForMaskedLM.from_pretrained(folder / "latest", dtype=torch.float32).eval()
    losses, correct, counts = [], [], set()
    for line in (folder / "eval_samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        with torch.no_grad():
            logits = model(torch.tensor([sample["input_ids"]])).logits[0]
        logits = logits[sample["target_positions"]]
        targets = torch.tensor(sample["target_ids"])
        losses.append(F.cross_entropy(logits, targets).item())
        counts.add(len(targets))
        correct += (logits.argmax(-1) == targets).tolist()
    assert len(counts) > 1
    expected = {
        "mean": np.mean(losses),
        "median": np.median(losses),
        "std": np.std(losses),
        "min": np.min(losses),
        "p5": np.percentile(losses, 5),
        "p95": np.percentile(losses, 95),
        "max": np.max(losses),
        "num_samples": 9,
        "accuracy": np.mean(correct),
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    weights = dict(model.named_parameters())
    spectra_of = [
        np.linalg.svd(weight.detach().numpy(), compute_uv=False)
        for name, weight in weights.items()
        if name.endswith("intermediate.dense.weight")
    ]
    assert len(spectra_of) == 2
    assert row["svd_mean_ratio_1"] == pytest.approx(
        np.mean([values[0] / values.mean() for values in spectra_of]), rel=1e-4
    )


def test_samples_are_drawn_from_held_out_documents_with_masks_fixed(make_sources, tmp_path):
    train, held_out = make_sources()
    texts = []
    for number in (1, 2):
        drawn = draw_samples(held_out, MLM, num_samples=10, batch_size=4)
        assert all(batch.dropout_seed is None for batch in drawn.batches)
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


def test_spectra_of_known_matrices():
    weights = {
        "layer.0.intermediate.dense.weight": torch.diag(torch.tensor([6.0, 3.0, 1.0])),
        "layer.1.intermediate.dense.weight": torch.eye(3),
        "layer.0.output.dense.weight": 100 * torch.eye(3),
    }
    expected = {"svd_mean_ratio_1": (6 / (10 / 3) + 1) / 2, "svd_median_ratio_1": (2 + 1) / 2}
    assert spectra(weights) == pytest.approx(expected)
    assert spectra({"layers.0.mlp.Wi.weight": torch.eye(2)})["svd_mean_ratio_1"] == 1
    assert spectra({"other": torch.eye(2)}) == {}
    broken = {"layer.0.intermediate.dense.weight": torch.full((2, 2), torch.nan)}
    assert spectra(broken) == {}


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
