import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import DebertaV2ForMaskedLM

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.evaluation.evaluator import spectra
from tests.evaluation.held_out import never


def test_evaluation_leaves_the_random_numbers_as_they_were(engine, evaluator):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    evaluator.evaluate(engine, never)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert not any(p.grad is not None for p in engine.objective.parameters())


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
