"""What goes wrong outside: full disks, damaged files, two trainers, signals, diverging losses."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.engine.single import SingleEngine
from tests.train.runs import assert_same_run, log_rows, run_forked


def train(folder, *arguments):
    return main([str(folder), *map(str, arguments), "--quiet"])


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: flip_byte(path / "model.safetensors"), "has changed"),
        (lambda path: os.truncate(path / "model.safetensors", 100), "bytes, not"),
        (lambda path: (path / "trainer" / "state.json").unlink(), "missing"),
        (lambda path: (path / "manifest.json").write_text("{"), "manifest"),
    ],
)
def test_damaged_checkpoint_falls_back_to_the_one_before(half_done, whole, capsys, damage, says):
    damage(half_done / "checkpoint-8")
    assert train(half_done) == 0
    messages = capsys.readouterr().err
    assert "checkpoint-8" in messages
    assert says in messages
    assert "falling back" in messages
    assert_same_run(half_done, whole)
    assert (half_done / "damaged-checkpoint-8-1").is_dir()


def test_all_checkpoints_damaged(half_done, capsys):
    for path in half_done.glob("checkpoint-*"):
        flip_byte(path / "model.safetensors")
    assert train(half_done) == 65
    assert "every checkpoint is damaged" in capsys.readouterr().err
    assert len(log_rows(half_done / "log.jsonl")) == 8


def test_log_without_checkpoint_needs_restart(half_done, whole, capsys):
    for path in half_done.glob("checkpoint-*"):
        shutil.rmtree(path)
    (half_done / "latest").unlink()
    assert train(half_done) == 2
    assert "--restart" in capsys.readouterr().err
    assert train(half_done, "--restart") == 0
    assert_same_run(half_done, whole)
    assert len(log_rows(half_done / "previous-1" / "log.jsonl")) == 8


def test_half_written_log_line_is_moved_away(half_done, whole):
    with (half_done / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')
    assert train(half_done) == 0
    assert_same_run(half_done, whole)
    assert (half_done / "log.orphan-8-1.jsonl").read_text() == '{"step": 9, "lo'


def test_deleted_log_is_told_and_not_fatal(half_done, capsys):
    (half_done / "log.jsonl").unlink()
    assert train(half_done) == 0
    assert "shorter than checkpoint 8 knows it" in capsys.readouterr().err
    assert [row["step"] for row in log_rows(half_done / "log.jsonl")] == [9, 10, 11, 12]


def test_a_copy_by_a_tool_that_follows_links_goes_on(half_done, whole, tmp_path):
    copy = shutil.copytree(half_done, tmp_path / "copy")  # as `cp -rL` does
    shutil.copytree(copy / "checkpoint-8", tmp_path / "old")
    assert not (copy / "latest").is_symlink()
    assert train(copy) == 0
    assert_same_run(copy, whole)
    (copy / "latest").unlink()
    (tmp_path / "old").rename(copy / "latest")  # and it has gone stale in a finished run
    assert train(copy) == 0
    assert (copy / "latest").resolve().name == "checkpoint-12"
    assert "checkpoint-8" in [path.name for path in copy.iterdir()]  # what the copy is of
    assert not [*copy.glob("replaced-*")]


def test_resume_from_an_older_checkpoint(half_done, whole):
    assert train(half_done, "--resume_from_checkpoint", half_done / "checkpoint-4") == 0
    assert_same_run(half_done, whole)
    assert (half_done / "previous-1" / "checkpoint-8").is_dir()


def test_resume_from_another_folders_checkpoint(half_done, make_model_folder, whole):
    other = make_model_folder("other")
    assert train(other, "--resume_from_checkpoint", half_done / "checkpoint-8") == 0
    assert [row["step"] for row in log_rows(other / "log.jsonl")] == [9, 10, 11, 12]
    assert log_rows(other / "log.jsonl") == log_rows(whole / "log.jsonl")[8:]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("seed=1", "seed: was 0, is 1"),
        ("batch_size=2", "global_batch_size: was 4, is 2"),
        ('tasks={"mlm": 0.5, "nsp": 0.5}', "tasks.mlm.probability: was 1.0, is 0.5"),
        ("optimizer.gradient_accumulation_steps=2", "gradient_accumulation_steps"),
    ],
)
def test_another_run_is_refused_with_the_difference(half_done, capsys, change, named):
    assert train(half_done, "--set", change) == 2
    assert named in capsys.readouterr().err
    assert len(log_rows(half_done / "log.jsonl")) == 8


def test_changed_architecture_and_data_are_refused(half_done, tiny_corpus_files, capsys):
    path = half_done / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 3}))
    data = f"statutes={tiny_corpus_files['statutes']}"
    assert train(half_done, "--data", data) == 2
    messages = capsys.readouterr().err
    assert "config.num_hidden_layers: was 2, is 3" in messages
    assert "data.opinions" in messages


def test_more_steps_and_other_settings_are_taken_over(half_done):
    assert train(half_done, "--set", "optimizer.total_steps=14", "--set", "steps_per_save=5") == 0
    assert [row["step"] for row in log_rows(half_done / "log.jsonl")] == list(range(1, 15))
    starts = [json.loads(line) for line in (half_done / "run.jsonl").read_text().splitlines()]
    assert [start["event"] for start in starts] == ["start", "resume"]
    assert starts[1]["training"]["optimizer"]["total_steps"] == 14


def test_second_trainer_names_the_first(make_model_folder, capsys):
    folder = make_model_folder()
    with (folder / ".lock").open("w") as lock:
        lock.write("12345")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert train(folder) == 75
    assert "process 12345 trains here" in capsys.readouterr().err
    assert train(folder, "--stop-after", 1) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_resumes(make_model_folder, whole, number):
    folder = make_model_folder("stopped")

    def signal_in_step_five():
        step = SingleEngine.step

        def stepping(engine, lr, max_norm):
            stepping.count += 1
            if stepping.count == 5:
                os.kill(os.getpid(), number)
            return step(engine, lr, max_norm)

        stepping.count = 0
        SingleEngine.step = stepping

    assert run_forked(folder, prepare=signal_in_step_five) == 128 + number
    assert (folder / "latest").resolve().name == "checkpoint-5"
    assert train(folder) == 0
    assert_same_run(folder, whole)


def test_second_signal_exits_now(make_model_folder):
    folder = make_model_folder()

    def two_signals():
        def stepping(engine, lr, max_norm):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

        SingleEngine.step = stepping

    assert run_forked(folder, prepare=two_signals) == 130
    assert (folder / "latest").resolve().name == "checkpoint-0"


def test_non_finite_step_is_skipped_and_logged(make_model_folder, monkeypatch):
    backward = SingleEngine.backward
    calls = []

    def poisoned(engine, loss, *, last):
        calls.append(loss)
        backward(engine, loss * (torch.nan if len(calls) == 5 else 1.0), last=last)

    monkeypatch.setattr(SingleEngine, "backward", poisoned)
    folder = make_model_folder()
    assert train(folder) == 0
    rows = log_rows(folder / "log.jsonl")
    assert [row["step"] for row in rows if row["skipped"]] == [5]
    assert rows[4]["loss"] is None
    assert rows[4]["grad_norm"] is None
    assert all(row["loss"] is not None for row in rows if row["step"] != 5)


def test_diverged_run_stops_and_keeps_its_checkpoints(make_model_folder, monkeypatch, capsys):
    backward = SingleEngine.backward
    monkeypatch.setattr(
        SingleEngine,
        "backward",
        lambda engine, loss, *, last: backward(
            engine, loss * (torch.nan if calls.append(0) or len(calls) > 5 else 1.0), last=last
        ),
    )
    calls = []
    folder = make_model_folder(max_skipped_steps=3)
    assert train(folder) == 70
    assert "3 steps in a row up to step 8" in capsys.readouterr().err
    monkeypatch.undo()
    state = json.loads((folder / "latest" / "trainer" / "state.json").read_text())
    assert state["step"] in (4, 8)
    weights = load_file(folder / "latest" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_out_of_memory_names_the_batch(make_model_folder, monkeypatch, capsys):
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(SingleEngine, "forward", out_of_memory)
    assert train(make_model_folder()) == 75
    assert "batch_size 4" in capsys.readouterr().err


def test_disk_full_while_saving_keeps_the_checkpoint_before(make_model_folder, whole, capfd):
    folder = make_model_folder("full")
    assert train(folder, "--stop-after", 6) == 0

    def small_files_only():
        size = (folder / "latest" / "model.safetensors").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))

    assert run_forked(folder, prepare=small_files_only) == 73
    assert "cannot be written" in capfd.readouterr().err
    assert (folder / "latest").resolve().name == "checkpoint-6"
    assert not list(folder.glob(".unfinished-*"))
    assert train(folder) == 0
    assert_same_run(folder, whole)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_small_disk_and_read_only_folder(make_model_folder, tmp_path, capfd):
    """On a real file system of 2 MB that fills up, and on one that is mounted read-only."""
    model = make_model_folder(steps_per_save=1, save={"keep_last": 100})
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for name in ("config.json", "training.json"):
            shutil.copy(model / name, disk)
        assert run_forked(disk) == 73
        assert "cannot be written" in capfd.readouterr().err
        newest = (disk / "latest").resolve()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert run_forked(disk) == 73
        subprocess.run(["mount", "-o", "remount,rw,size=100m", disk], check=True)
        assert run_forked(disk) == 0
        assert newest.is_dir()
        assert [row["step"] for row in log_rows(disk / "log.jsonl")] == list(range(1, 13))
    finally:
        subprocess.run(["umount", disk], check=True)
