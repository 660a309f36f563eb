import shutil
from dataclasses import asdict
from functools import partial

import pytest

from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.engine.state_files import write_state
from kl3m_embeddings.errors import ConfigError, DamagedError, DataError
from kl3m_embeddings.files.checkpoint import TRAINER, checkpoint_steps, save_checkpoint, verify
from kl3m_embeddings.files.latest import point_latest
from kl3m_embeddings.train.logs import LOG
from kl3m_embeddings.train.resume import clear_way, find_start, is_of


def write(path, step, **fields):
    (path / "weights").write_bytes(b"w" * 10)
    write_state(path / TRAINER, asdict(TrainState()) | {"step": step} | fields, {})


def save(folder, *steps):
    folder.mkdir(exist_ok=True)
    for step in steps:
        save_checkpoint(
            folder,
            step,
            partial(write, step=step),
            {"identity": {}, "num_threads": 1, "log_offsets": {LOG: 10 * step}},
        )
    (folder / LOG).write_text("{}\n")


def start_of(folder, *, restart=False, resume_from=None):
    """What is found, and what is told; finding leaves everything where it is."""
    told = []
    before = sorted(folder.rglob("*"))
    asked = {"restart": restart, "resume_from": resume_from, "warn": told.append}
    start = find_start(folder, **asked)
    assert sorted(folder.rglob("*")) == before
    clear_way(folder, start, **asked)
    return start, told


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "model", 4, 8, 12)
    return tmp_path / "model"


def test_an_empty_folder_starts_at_step_0(tmp_path):
    assert start_of(tmp_path) == (None, [])
    (tmp_path / LOG).write_bytes(b"")
    assert start_of(tmp_path) == (None, [])


def test_the_newest_whole_checkpoint_is_found(folder):
    assert start_of(folder)[0].step == 12
    (folder / "checkpoint-12" / "weights").write_bytes(b"short")
    start, told = start_of(folder)
    assert start.step == 8
    assert "falling back to the checkpoint before" in told[0]


@pytest.mark.parametrize("fields", [{"step": 15}, {"step": None}, {"of_later": 1}])
def test_a_sealed_state_that_cannot_be_gone_on_with_is_damage_like_any_other(folder, fields):
    details = {"identity": {}, "num_threads": 1, "log_offsets": {}}
    path = save_checkpoint(folder, 16, lambda path: write(path, **({"step": 16} | fields)), details)
    start, told = start_of(folder)
    assert start.step == 12
    assert "checkpoint-16/trainer" in told[0]
    with pytest.raises(DamagedError, match="checkpoint-16/trainer"):
        start_of(folder, resume_from=path)


def test_a_log_without_a_checkpoint_needs_a_restart(tmp_path):
    (tmp_path / LOG).write_text('{"step": 1}\n')
    with pytest.raises(ConfigError, match="start anew with --restart") as raised:
        start_of(tmp_path)
    assert raised.value.exit_code == 2
    start, told = start_of(tmp_path, restart=True)
    assert start is None
    assert "previous-1" in told[0]
    assert (tmp_path / "previous-1" / LOG).exists()
    assert not (tmp_path / LOG).exists()


def test_all_damaged_is_never_step_0(folder):
    for path in folder.glob("checkpoint-*"):
        (path / "weights").unlink()
    with pytest.raises(DataError) as raised:
        start_of(folder)
    assert raised.value.exit_code == 65


def test_restart_puts_everything_aside_and_deletes_nothing(folder):
    for number in (1, 2):
        start, _ = start_of(folder, restart=True)
        assert start is None
        assert checkpoint_steps(folder) == []
        assert checkpoint_steps(folder / f"previous-{number}")
        assert not (folder / LOG).exists()
        save(folder, 4)
    assert checkpoint_steps(folder / "previous-1") == [12, 8, 4]


def test_a_restart_of_nothing_says_nothing(tmp_path):
    assert start_of(tmp_path, restart=True) == (None, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("as_given", ["relative", "absolute", "through a link"])
def test_an_older_checkpoint_of_this_folder_puts_the_newer_aside(folder, monkeypatch, as_given):
    monkeypatch.chdir(folder.parent)
    own, named = folder.relative_to(folder.parent), folder / "checkpoint-8"
    if as_given == "relative":
        named = named.relative_to(folder.parent)
    elif as_given == "through a link":
        named = folder.parent / "link"
        named.symlink_to(folder / "checkpoint-8")
    start, told = start_of(own, resume_from=named)
    assert start.step == 8
    assert start.path == own / "checkpoint-8"  # known as this folder's, so it is not saved again
    assert start.manifest["log_offsets"] == {LOG: 80}
    assert checkpoint_steps(folder) == [8, 4]
    assert checkpoint_steps(folder / "previous-1") == [12]
    assert "previous-1" in told[0]
    assert (folder / "latest").resolve() == folder / "checkpoint-8"
    assert (folder / LOG).exists()  # the log is cut, not moved


def test_latest_can_be_named(folder):
    point_latest(folder, "checkpoint-12")
    start, told = start_of(folder, resume_from=folder / "latest")
    assert start.step == 12
    assert start.path == folder / "checkpoint-12"
    assert told == []
    assert verify(folder / "latest").step == 12


@pytest.mark.parametrize("become", ["missing", "dangling", "copy of an older one", "copy"])
@pytest.mark.parametrize("named", [False, True])
def test_latest_is_put_right_whatever_has_become_of_it(folder, become, named):
    """The tools that copied the folder may have left it out, or made a folder of it."""
    if become == "dangling":
        (folder / "latest").symlink_to("checkpoint-77")
    elif become != "missing":
        shutil.copytree(folder / f"checkpoint-{12 if become == 'copy' else 4}", folder / "latest")
    start, told = start_of(folder, resume_from=folder / "checkpoint-12" if named else None)
    assert start.path == folder / "checkpoint-12"
    assert told == []
    assert (folder / "latest").is_symlink()
    assert (folder / "latest").resolve() == folder / "checkpoint-12"


def test_latest_can_be_named_where_it_is_a_copy(folder):
    shutil.copytree(folder / "checkpoint-8", folder / "latest")
    start, _ = start_of(folder, resume_from=folder / "latest")
    assert start.path == folder / "checkpoint-8"
    assert start.manifest["log_offsets"] == {LOG: 80}
    assert checkpoint_steps(folder) == [8, 4]
    assert (folder / "latest").resolve() == folder / "checkpoint-8"


def test_what_was_put_aside_can_be_gone_on_from(folder):
    aside = (folder / "checkpoint-8").rename(folder / "diverged-checkpoint-8-1")
    start, told = start_of(folder, resume_from=aside)
    assert (start.path, start.step) == (aside, 8)
    assert not is_of(folder, start)
    assert checkpoint_steps(folder / "previous-1") == [12, 4]
    assert "previous-1" in told[0]


def test_a_checkpoint_of_another_folder_brings_no_logs(folder, tmp_path):
    save(tmp_path / "other", 6)
    start, told = start_of(folder, resume_from=tmp_path / "other" / "checkpoint-6")
    assert start.step == 6
    assert start.manifest["log_offsets"] == {}
    assert checkpoint_steps(folder) == []
    assert checkpoint_steps(folder / "previous-1") == [12, 8, 4]
    assert not (folder / LOG).exists()
    assert len(told) == 1
    assert checkpoint_steps(tmp_path / "other") == [6]


def test_a_named_checkpoint_must_be_whole(folder):
    (folder / "checkpoint-8" / "weights").write_bytes(b"")
    for name in ("checkpoint-8", "checkpoint-9"):
        with pytest.raises(DataError, match=name):
            start_of(folder, resume_from=folder / name)
    assert checkpoint_steps(folder) == [12, 8, 4]  # and nothing was moved
