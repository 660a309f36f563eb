"""What a diverging run leaves behind: good checkpoints, and the way to go on from them."""

import json
import os
import shlex
import signal

import pytest
import torch
from safetensors.torch import load_file

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.files.checkpoint import checkpoint_steps, save_checkpoint
from kl3m_embeddings.files.latest import point_latest
from kl3m_embeddings.train.divergence import GoodCheckpoints, lower_rates
from kl3m_embeddings.train.loop import Trainer
from tests.files.sealed import DETAILS
from tests.train.runs import log_rows


def train(folder, *arguments):
    return main([str(folder), *map(str, arguments), "--quiet"])


def at_rate(rate):
    """Both ends of the schedule, without a warm-up."""
    rates = {"peak_lr": rate, "start_lr": rate, "end_lr": rate}
    return {"optimizer": {"total_steps": 12, "warmup_steps": 0, **rates}}


SANE = [f"--set=optimizer.{name}=1e-3" for name in ("peak_lr", "start_lr", "end_lr")]


def spoil(monkeypatch, steps):
    """Make the loss of these of the process's steps no number."""
    backward, step = SingleEngine.backward, SingleEngine.step
    done = [0]

    def poisoned(engine, loss, *, last):
        backward(engine, loss * (torch.nan if done[0] + 1 in steps else 1.0), last=last)

    def counted(engine, lr, max_norm):
        done[0] += 1
        return step(engine, lr, max_norm)

    monkeypatch.setattr(SingleEngine, "backward", poisoned)
    monkeypatch.setattr(SingleEngine, "step", counted)


@pytest.fixture
def folder(tmp_path):
    """A model folder with nothing but checkpoints."""
    for step in (4, 8, 12):
        save_checkpoint(tmp_path, step, lambda path: (path / "weights").write_text("w"), DETAILS)
    point_latest(tmp_path, "checkpoint-12")
    return tmp_path


@pytest.mark.parametrize(
    ("start", "last_finite", "kept", "good"),
    [
        (4, 15, [12, 8, 4], 12),
        (4, 12, [8, 4], 8),  # 12 has the weights that step 12 made
        (4, 9, [8, 4], 8),
        (4, 8, [4], 4),
        (4, 4, [], None),
        (12, None, [12, 8, 4], 8),  # as it was found, and not gone on from
        (4, None, [12, 8, 4], None),
    ],
)
def test_what_was_before_the_last_finite_step_is_good(folder, start, last_finite, kept, good):
    checkpoints = GoodCheckpoints(
        folder=folder,
        launcher="train.py",
        lower_rates={"optimizer.peak_lr": 1e-5},
        start_step=start,
        last_finite=last_finite,
    )
    message = str(checkpoints.end("why"))
    assert checkpoint_steps(folder) == kept
    aside = {int(path.name.split("-")[2]) for path in folder.glob("diverged-checkpoint-*-1")}
    assert aside == {4, 8, 12} - set(kept)
    assert message.startswith(f"{folder}: why")
    if good is None:
        assert "--restart" in message
        return
    assert (folder / "latest").resolve().name == f"checkpoint-{kept[0]}"
    assert shlex.split(message.split("at a lower rate: ")[1]) == [
        *("python", "train.py", str(folder)),
        *("--resume_from_checkpoint", str(folder / f"checkpoint-{good}")),
        *("--set", "optimizer.peak_lr=1e-05"),
    ]


@pytest.mark.parametrize("steps", [(), (0,)])
def test_before_any_step_with_a_finite_loss_no_rate_is_to_blame(tmp_path, steps):
    """At step 0, before the first save; or in a streak from the first step on."""
    for step in steps:
        save_checkpoint(tmp_path, step, lambda path: (path / "weights").write_text("w"), DETAILS)
    checkpoints = GoodCheckpoints(
        folder=tmp_path, launcher="train.py", lower_rates={"optimizer.peak_lr": 1e-5}, start_step=0
    )
    message = str(checkpoints.end("why"))
    assert message.startswith(f"{tmp_path}: why, before any step with a finite loss: ")
    assert "peak_lr" not in message and "init_from" in message
    assert checkpoint_steps(tmp_path) == list(steps)


def test_weights_that_are_ruined_from_the_start_are_told_as_that(make_model_folder, capsys):
    folder = make_model_folder(config={"initializer_range": 1e30})
    assert train(folder) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "weights are not finite, or above 1e19, at step 0, before any step" in line
    assert "initializer_range" in line and "rate: python" not in line
    assert not list(folder.glob("checkpoint-*"))


def test_a_damaged_checkpoint_is_not_good(folder):
    (folder / "checkpoint-8" / "weights").unlink()
    checkpoints = GoodCheckpoints(
        folder=folder, launcher="train.py", lower_rates={}, start_step=0, last_finite=12
    )
    assert "checkpoint-4 is the last good one" in str(checkpoints.end("why"))
    assert (folder / "latest").resolve().name == "checkpoint-4"


@pytest.mark.parametrize(
    ("fields", "lower"),
    [
        ({}, {"peak_lr": 1e-4}),
        ({"end_lr": 1e-3, "start_lr": 1e-4}, {"peak_lr": 1e-4, "end_lr": 1e-4}),
        ({"name": "muon", "muon_lr": 2e-2}, {"peak_lr": 1e-4, "muon_lr": 2e-3}),
    ],
)
def test_every_rate_that_is_high_is_lowered(fields, lower):
    optimizer = OptimizerConfig(
        **{"total_steps": 9, "peak_lr": 1e-3, "start_lr": 0, "end_lr": 0} | fields
    )
    expected = {f"optimizer.{name}": pytest.approx(rate) for name, rate in lower.items()}
    assert lower_rates(optimizer) == expected


@pytest.mark.parametrize(
    ("task", "rate", "steps_per_save", "steps_per_eval", "max_skipped_steps"),
    [
        ("mlm", 1e38, 5, 5, 3),
        ("pairs", 1e38, 1, 50, 3),  # the weights are too large for any norm
        ("mlm", 1e10, 1, 50, 3),  # they are not: a checkpoint of ruined weights is written
        ("pairs", 1e10, 5, 5, 20),  # the run is over before it is stopped
    ],
)
def test_a_rate_beyond_reason_spoils_no_checkpoint(
    make_model_folder, capsys, task, rate, steps_per_save, steps_per_eval, max_skipped_steps
):
    folder = make_model_folder(
        tasks={task: 1.0},
        steps_per_save=steps_per_save,
        steps_per_eval=steps_per_eval,
        max_skipped_steps=max_skipped_steps,
        save={"keep_last": 1},
        **at_rate(rate),
    )
    assert train(folder) == 70
    message = capsys.readouterr().err
    assert "checkpoint-0 is the last good one" in message
    assert (folder / "latest").resolve().name == "checkpoint-0"
    assert checkpoint_steps(folder) == [0]
    assert train(folder, *SANE, "--stop-after", 2) == 0
    assert all(row["loss"] is not None for row in log_rows(folder / "log.jsonl"))
    weights = load_file(folder / "latest" / "model.safetensors")
    assert max(tensor.abs().max() for tensor in weights.values()) < 100


def test_the_command_that_is_named_goes_on(make_model_folder, monkeypatch, capsys):
    spoil(monkeypatch, range(7, 13))
    folder = make_model_folder(max_skipped_steps=3, steps_per_save=2)
    assert train(folder) == 70
    message = capsys.readouterr().err
    assert "3 steps in a row up to step 9" in message
    assert "what may be ruined is in diverged-checkpoint-6-1" in message
    assert "checkpoint-4 is the last good one" in message
    monkeypatch.undo()
    monkeypatch.setenv("KL3M_CACHE", str(folder.parent))
    _, _, *arguments = shlex.split(message.split("at a lower rate: ")[1])
    assert train(*arguments) == 0
    rows = log_rows(folder / "log.jsonl")
    assert [row["step"] for row in rows if row["loss"] is not None] == list(range(1, 13))


def test_killed_in_a_streak_a_run_names_the_checkpoint_before(
    make_model_folder, monkeypatch, capsys
):
    """Nothing is known of the one that it goes on from: it is named, and stays where it is."""
    folder = make_model_folder(max_skipped_steps=3)
    assert train(folder, "--stop-after", 8) == 0
    spoil(monkeypatch, range(1, 5))
    assert train(folder) == 70
    assert checkpoint_steps(folder) == [8, 4]
    assert "checkpoint-4 is the last good one" in capsys.readouterr().err


def test_a_checkpoint_that_a_skipped_step_puts_off_is_written_after_it(
    make_model_folder, monkeypatch
):
    spoil(monkeypatch, (4, 5, 8))
    folder = make_model_folder(save={"keep_last": 9})
    assert train(folder) == 0
    assert checkpoint_steps(folder) == [12, 9, 6, 0]


@pytest.mark.parametrize("arguments", [[], ["--stop-after", 8]])
def test_a_run_that_ends_on_a_skipped_step_is_not_done(
    make_model_folder, monkeypatch, capsys, arguments
):
    spoil(monkeypatch, (8, 12))
    folder = make_model_folder()
    assert train(folder, *arguments) == 70
    last = 8 if arguments else 12
    assert f"1 steps in a row up to step {last}" in capsys.readouterr().err
    assert (folder / "latest").resolve().name != f"checkpoint-{last}"


def test_a_signal_while_steps_are_skipped_saves_nothing(make_model_folder, monkeypatch, capsys):
    spoil(monkeypatch, range(6, 13))
    step = SingleEngine.step
    calls = []

    def interrupted(engine, lr, max_norm):
        calls.append(lr)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(engine, lr, max_norm)

    monkeypatch.setattr(SingleEngine, "step", interrupted)
    folder = make_model_folder()
    assert train(folder) == 143
    assert checkpoint_steps(folder) == [4, 0]
    assert "2 steps in a row up to step 7" in capsys.readouterr().err


def test_a_loss_without_a_number_is_heeded_though_its_gradient_has_one(
    make_model_folder, monkeypatch, capsys
):
    def step_with_a_bad_loss(trainer, plan, timer):
        pending = plain(trainer, plan, timer)
        if plan.step >= 6:
            pending.loss.fill_(torch.inf)
        return pending

    plain = Trainer._step
    monkeypatch.setattr(Trainer, "_step", step_with_a_bad_loss)
    folder = make_model_folder(max_skipped_steps=3, steps_per_save=1)
    assert train(folder) == 70
    assert "3 steps in a row up to step 8" in capsys.readouterr().err
    assert (folder / "latest").resolve().name == "checkpoint-4"


def test_the_best_is_none_that_is_ruined(make_model_folder, monkeypatch):
    """Evaluated amid skipped steps, weights are those of before, and not known to be good."""
    spoil(monkeypatch, (6, 7))
    folder = make_model_folder(save={"keep_last": 2, "keep_best": True}, steps_per_eval=3)
    assert train(folder) == 0
    evaluated = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    state = json.loads((folder / "latest" / "trainer" / "state.json").read_text())
    best = min((row for row in evaluated if row["step"] != 6), key=lambda row: row["mean"])
    assert state["best_step"] == best["step"]
    assert best["step"] in checkpoint_steps(folder)
