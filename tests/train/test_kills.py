"""Killed at any instant and resumed = never interrupted: the same bytes."""

import random
import signal

import pytest

from kl3m_embeddings.commands.train import main
from tests.train.runs import assert_same_run, log_rows, run_forked

EVERYTHING = {
    "tasks": {
        "mlm": 0.2,
        "nsp": 0.1,
        "nlp": 0.1,
        "mhm": 0.1,
        "crop": 0.1,
        "ict": 0.1,
        "simcse": 0.1,
        "ssd": 0.1,
        "pairs": {
            "probability": 0.1,
            "loss": {"name": "infonce", "learn_temperature": True},
            "num_negatives": 1,
            "batch_size": 6,
            "matryoshka_dims": [32, 16],
            "chunk_tokens": 100,
        },
    },
    "matroyshka_probability": 0.5,
    "matroyshka_min_log2": 2,
    "steps_per_save": 10,
    "steps_per_eval": 15,
    "optimizer": {
        "name": "muon",
        "total_steps": 130,
        "warmup_steps": 10,
        "peak_steps": 20,
        "peak_lr": 1e-3,
        "max_grad_norm_pct": 50,
        "max_grad_norm_window": 100,
        "gradient_accumulation_steps": 2,
    },
}
FAULT_POINTS = [
    "after_step:37", "after_log_row:33", "before_log_sync:3", "after_log_sync:3",
    "after_weights:3", "after_files:3", "before_manifest:3", "after_manifest:3",
    "after_rename:3", "after_latest:3", "while_pruning:1", "after_eval_row:2",
    "after_files:1", "after_rename:1", "after_log_row:1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def warm(make_model_folder):
    """One run in this process, so that its children find everything imported."""
    if not _warmed:
        _warmed.append(main([str(make_model_folder("warm")), "--stop-after", "1", "--quiet"]))


_warmed = []


def test_three_steps_and_three_more_equal_six(make_model_folder):
    optimizer = {"total_steps": 6, "warmup_steps": 2, "peak_lr": 1e-3}
    whole = make_model_folder("whole", optimizer=optimizer)
    parts = make_model_folder("parts", optimizer=optimizer)
    assert run_forked(whole) == 0
    assert run_forked(parts, "--stop-after", 3) == 0
    assert len(log_rows(parts / "log.jsonl")) == 3
    assert run_forked(parts) == 0
    assert_same_run(parts, whole)


@pytest.mark.slow
def test_killed_once_with_everything_on(make_model_folder, trained):
    whole = trained("everything", **EVERYTHING)
    killed = make_model_folder("killed", **EVERYTHING)
    thresholds = {row["clip_threshold"] for row in log_rows(whole / "log.jsonl")}
    assert len(thresholds) > 5  # percentile clipping is at work
    assert run_forked(killed, fault="after_step:114") == -signal.SIGKILL
    assert run_forked(killed) == 0
    assert_same_run(killed, whole)
    orphans = list(killed.glob("log.orphan-*.jsonl"))
    assert [row["step"] for row in log_rows(orphans[0])] == [111, 112, 113]


@pytest.mark.slow
def test_killed_twenty_times(make_model_folder, trained):
    whole = trained("everything", **EVERYTHING)
    killed = make_model_folder("killed", **EVERYTHING)
    generator = random.Random(0)
    for _ in range(20):
        steps = generator.randint(1, 14)
        assert run_forked(killed, fault=f"after_step:{steps}") in (-signal.SIGKILL, 0)
    assert run_forked(killed) == 0
    assert_same_run(killed, whole)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULT_POINTS)
def test_killed_at_every_fault_point(make_model_folder, trained, fault):
    fields = EVERYTHING | {"optimizer": EVERYTHING["optimizer"] | {"total_steps": 50}}
    whole = trained("fifty-steps", **fields)
    killed = make_model_folder("killed", **fields)
    assert run_forked(killed, fault=fault) == -signal.SIGKILL
    assert run_forked(killed) == 0
    assert_same_run(killed, whole)
    assert not list(killed.glob(".unfinished-*"))
