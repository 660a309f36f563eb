import json
from dataclasses import replace

import pytest
import torch

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.plan import PlannedTask, Planner
from kl3m_embeddings.train.phase_timer import PhaseTimer
from kl3m_embeddings.train.rows import PendingRow, Postfix

PUBLISHED = {
    "step", "epoch", "lr", "sample_time", "reduced_dim", "task", "num_samples", "num_identifiers",
    "num_tokens", "samples_by_dataset", "tokens_by_dataset", "loss", "forward_time",
    "backward_time", "optimizer_time", "step_time", "total_time", "token_rate", "time",
}  # fmt: skip
ADDED = {
    "accuracy", "num_targets", "num_fallback", "skipped", "grad_norm", "clip_threshold",
    "padding_fraction", "device_mb", "peak_flops", "mfu",
}  # fmt: skip
TIMES = {"sample": 0.25, "forward": 1.0, "backward": 2.0, "optimizer": 0.5, "other": 0.25}


@pytest.fixture
def pending(make_sources):
    task = MaskedLanguageModelling(MlmOptions(probability=1.0))
    planner = Planner(
        tasks={"mlm": PlannedTask(task, make_sources(max_length=256)[0], 1.0, 4)},
        seed=0,
        hidden_size=32,
        accumulation=2,
        matroyshka_probability=1.0,
        matroyshka_min_log2=3,
    )
    plan = planner.plan(3)
    timer, now = PhaseTimer(torch.device("cpu")), 100.0
    timer._marks.append(("start", now))
    for phase, seconds in TIMES.items():
        now += seconds
        timer._marks.append((phase, now))
    return PendingRow(
        task=task,
        plan=plan,
        epoch=1,
        lr=1e-4,
        loss=torch.tensor(5.5),
        num_correct=torch.tensor(7),
        measures={},
        divisors={"mlm": float(plan.counts["mlm"])},
        clip_threshold=torch.tensor(0.8),
        result=StepResult(norm=torch.tensor(1.25), skipped=torch.tensor(False)),
        timer=timer,
        flops=8e9,
    )


def test_a_row_says_what_the_step_was(pending):
    row = pending.row([pending.share()], total_time=10.0, peak_flops=1e10)
    assert set(row) == PUBLISHED | ADDED
    batches = pending.plan.batches
    num_tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
    assert (row["step"], row["task"], row["num_samples"]) == (3, "mlm", 8)
    assert row["reduced_dim"] in (8, 16)
    assert row["num_tokens"] == num_tokens == sum(row["tokens_by_dataset"].values())
    assert sum(row["samples_by_dataset"].values()) == 8
    assert row["padding_fraction"] == pytest.approx(1 - num_tokens / (8 * 256))
    assert 0 < row["padding_fraction"] < 1
    assert (row["loss"], row["grad_norm"], row["skipped"]) == (5.5, 1.25, False)
    assert row["clip_threshold"] == pytest.approx(0.8)
    assert row["accuracy"] == 7 / row["num_targets"]
    json.dumps(row, allow_nan=False)


def test_phases_add_up_to_the_step(pending):
    row = pending.row([pending.share()], total_time=10.0, peak_flops=1e10)
    assert row["step_time"] == 4.0
    assert row["total_time"] == 14.0
    phases = ("sample_time", "forward_time", "backward_time", "optimizer_time")
    assert sum(row[name] for name in phases) == 3.75
    assert row["token_rate"] == row["num_tokens"] / 4.0
    assert row["mfu"] == pytest.approx(8e9 / (4.0 * 1e10))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 3.0])
def test_a_skipped_step_has_no_loss_and_stays_json(pending, loss):
    result = StepResult(norm=torch.tensor(float("nan")), skipped=torch.tensor(True))
    pending = replace(pending, loss=torch.tensor(loss), result=result)
    row = pending.row([pending.share()], 0.0, 1e10)
    assert row["skipped"] is True
    assert row["loss"] is None
    assert row["grad_norm"] is None
    json.dumps(row, allow_nan=False)


def test_the_documents_of_all_micro_batches_are_named_once(pending):
    row = pending.objects([pending.share()])
    assert row["step"] == 3
    infos = [batch.info.documents for batch in pending.plan.batches]
    for dataset, ids in row["objects"].items():
        assert len(ids) == len(set(ids))
        assert set(ids) == {one for info in infos for one in info.get(dataset, [])}
    identifiers = pending.row([pending.share()], 0.0, 1e10)["num_identifiers"]
    assert identifiers == sum(len(ids) for ids in row["objects"].values())


def row_of(loss, rate=100.0):
    return {"loss": loss, "token_rate": rate, "grad_norm": 1.0, "lr": 2e-4, "step_time": 0.5}


def test_the_postfix_is_the_published_one():
    postfix = Postfix()
    for step in range(1500):
        shown = postfix.update(row_of(float(step)))
    assert shown == {
        "loss": "1499.00",
        "loss_100": f"{sum(range(1400, 1500)) / 100:.3f}",
        "loss_1000": f"{sum(range(500, 1500)) / 1000:.3f}",
        "last_eval": "-",
        "grad_norm": "1.00",
        "lr": "2.0e-04",
        "step_time": "0.50",
        "token_rate": "100",
    }
    postfix.last_eval = 3.14159
    assert postfix.update(row_of(1.0))["last_eval"] == "3.14"


def test_skipped_steps_do_not_enter_the_means():
    postfix = Postfix()
    postfix.update(row_of(2.0))
    shown = postfix.update(row_of(None))
    assert (shown["loss"], shown["loss_100"]) == ("-", "2.000")
    assert Postfix().update(row_of(None))["loss_100"] == "-"


def test_the_progress_bar_shows_all_devices_and_each(pending):
    row = pending.row([pending.share(), pending.share()], total_time=10.0, peak_flops=1e10)
    assert row["num_devices"] == 2
    assert row["num_tokens"] == 2 * sum(pending.share()["tokens"].values())
    shown = Postfix().update(row)
    assert float(shown["token_rate"]) == pytest.approx(2 * float(shown["per_device"]), abs=1)
    alone = Postfix().update(pending.row([pending.share()], total_time=10.0, peak_flops=1e10))
    assert "per_device" not in alone
