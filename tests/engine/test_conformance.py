"""Two ranks with half of each micro-batch = one device with the whole, in every ZeRO stage.

fp32, with dropout. Losses and norms agree to 1e-5, weights to 2e-5 after 6 steps of AdamW: what is
left is the order of sums.
"""

from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from kl3m_embeddings.commands.train import main
from tests.engine.ranks import launch
from tests.engine.train_folders import __file__ as TRAIN_FOLDERS
from tests.tiny_model import TINY_CONFIG
from tests.train.runs import log_rows

# not imported here: it would be in every child that later tests fork
pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed")

MASKED = {"mlm": 0.4, "nsp": 0.3, "nlp": 0.2, "mhm": 0.1}
PAIRS = {"probability": 1.0, "num_negatives": 1, "matryoshka_dims": [32, 8]}
TASKS = {
    "masked": MASKED,
    "pairs": {"pairs": PAIRS},
    "gradcache": {"pairs": PAIRS | {"chunk_tokens": 40}},
}
STEPS = 6
assert TINY_CONFIG["hidden_dropout_prob"] == TINY_CONFIG["attention_probs_dropout_prob"] == 0.1


@pytest.fixture
def make_pair_of_folders(make_model_folder):
    """A function: the same model folder for two ranks and, with twice the batch, for one."""

    def make(name, *, tasks, stage, accumulation=1, **fields):
        common = {
            "tasks": TASKS[tasks],
            "optimizer": {
                "total_steps": STEPS,
                "warmup_steps": 2,
                "peak_lr": 1e-3,
                "gradient_accumulation_steps": accumulation,
            },
            "steps_per_eval": STEPS,
            "steps_per_save": STEPS,
        } | fields
        section = {"zero_optimization": {"stage": stage}}
        return [
            make_model_folder(f"{name}-{kind}", batch_size=size, deepspeed=section, **common)
            for kind, size in (("two", 4), ("one", 8))
        ]

    return make


def assert_conform(two, one, *, weights=True):
    rows, expected = (log_rows(folder / "log.jsonl") for folder in (two, one))
    assert len(rows) == len(expected) == STEPS
    for row, wanted in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert row["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
        for key in ("step", "task", "num_samples", "num_tokens", "lr", "samples_by_dataset"):
            assert row[key] == wanted[key], key
        for key in (
            "accuracy",
            "num_targets",
            "num_pairs",
            "mean_sim_positive",
            "mean_sim_negative",
        ):
            assert (key in row) == (key in wanted), key
            assert row.get(key, 0) == pytest.approx(wanted.get(key, 0), rel=1e-5), key
    evals = [log_rows(folder / "eval.jsonl") for folder in (two, one)]
    assert evals[0][-1].keys() == evals[1][-1].keys()
    if weights:
        for name, tensor in load_file(two / "latest" / "model.safetensors").items():
            wanted = load_file(one / "latest" / "model.safetensors")[name]
            torch.testing.assert_close(tensor, wanted, rtol=1e-3, atol=2e-5, msg=name)


def train_both(pairs):
    result = launch(*(two for two, _ in pairs), script=TRAIN_FOLDERS)
    assert result.returncode == 0, result.stderr[-4000:]
    for two, one in pairs:
        assert main([str(one), "--quiet"]) == 0
        assert_conform(two, one)


@pytest.mark.timeout(300)
def test_two_ranks_are_one_device(make_pair_of_folders):
    """The smoke case: ZeRO 2, masked tasks."""
    train_both([make_pair_of_folders("smoke", tasks="masked", stage=2)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_are_one_device_in_every_stage(make_pair_of_folders):
    cases = [
        make_pair_of_folders(f"masked-{stage}-{n}", tasks="masked", stage=stage, accumulation=n)
        for stage in range(4)
        for n in (1, 2)
    ]
    cases += [
        make_pair_of_folders(f"{tasks}-{stage}", tasks=tasks, stage=stage)
        for stage in range(4)
        for tasks in ("pairs", "gradcache")
    ]
    train_both(cases)
