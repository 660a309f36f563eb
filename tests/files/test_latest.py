import errno
import os
import shutil
from pathlib import Path

import pytest

from kl3m_embeddings.files.checkpoint import save_checkpoint, verify
from kl3m_embeddings.files.latest import LATEST, point_latest, say_once
from tests.files.sealed import DETAILS


def write(path):
    (path / "model.safetensors").write_bytes(bytes(range(100)))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text("{}")


@pytest.fixture
def run(tmp_path):
    """A model folder with two checkpoints, and nothing called `latest`."""
    say_once.cache_clear()
    for step in (4, 8):
        save_checkpoint(tmp_path, step, write, DETAILS)
    return tmp_path


def names(run):
    return sorted(entry.name for entry in run.iterdir())


def copy_of(step):
    """What cp -rL makes of the link."""
    return lambda run: shutil.copytree(run / f"checkpoint-{step}", run / LATEST)


def text_of(text):
    """What a version control or an unzip without links makes of it."""
    return lambda run: (run / LATEST).write_text(text)


def link_to(name):
    return lambda run: (run / LATEST).symlink_to(name)


def link_in_the_way(run):
    """Of a process that was killed before the rename."""
    (run / ".unfinished-latest").symlink_to("gone")


REPLACED = {
    "nothing": lambda _: None,
    "the link": link_to("checkpoint-8"),
    "an older link": link_to("checkpoint-4"),
    "a link to nothing": link_to("checkpoint-77"),
    "a link to elsewhere": link_to("/"),
    "a copy of the newest": copy_of(8),
    "a copy of an older one": copy_of(4),
    "the name in a file": text_of("checkpoint-4"),
    "a leftover": link_in_the_way,
}


@pytest.mark.parametrize("what", REPLACED)
def test_it_becomes_the_link_whatever_copies_have_made_of_it(run, what, capsys):
    REPLACED[what](run)
    point_latest(run, "checkpoint-8")
    assert os.readlink(run / LATEST) == "checkpoint-8"  # noqa: PTH115 - as written
    assert names(run) == ["checkpoint-4", "checkpoint-8", LATEST]
    assert all(verify(run / f"checkpoint-{step}").step == step for step in (4, 8))
    assert capsys.readouterr().err == ""


def pruned_meanwhile(run):
    copy_of(4)(run)
    shutil.rmtree(run / "checkpoint-4")


def with_more(run):
    copy_of(8)(run)
    (run / LATEST / "notes.txt").write_text("mine")


def half_copied(run):
    copy_of(8)(run)
    (run / LATEST / "model.safetensors").write_bytes(b"")


def better_than_the_original(run):
    copy_of(8)(run)
    (run / "checkpoint-8" / "model.safetensors").write_bytes(b"")


def of_another_run(run):
    copy_of(8)(run)
    save_checkpoint(run / LATEST, 8, write, DETAILS | {"num_threads": 2})
    shutil.copytree(run / LATEST / "checkpoint-8", run / LATEST, dirs_exist_ok=True)
    shutil.rmtree(run / LATEST / "checkpoint-8")


KEPT = {
    "a checkpoint that is nowhere else": pruned_meanwhile,
    "more than a checkpoint": with_more,
    "a damaged copy": half_copied,
    "the copy of a damaged one": better_than_the_original,
    "another run's": of_another_run,
    "somebody's folder": lambda run: (run / LATEST).mkdir(),
    "somebody's file": text_of("mine"),
}


@pytest.mark.parametrize("what", KEPT)
def test_what_is_nowhere_else_is_renamed_and_told(run, what, capsys):
    KEPT[what](run)
    place, aside = run / LATEST, run / "replaced-latest-1"
    before = files_of(place)
    point_latest(run, "checkpoint-8")
    assert place.resolve() == run / "checkpoint-8"
    assert files_of(aside) == before
    assert capsys.readouterr().err == (
        f"warning: {place}: not the link that belongs here, nor a copy of a checkpoint: "
        f"now {aside}\n"
    )
    point_latest(run, "checkpoint-8")  # and once only
    assert not (run / "replaced-latest-2").exists()


def files_of(place):
    if place.is_file():
        return place.read_bytes()
    return {
        file.relative_to(place): file.read_bytes() for file in place.rglob("*") if file.is_file()
    }


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("what", ["nothing", "a copy of an older one", "the name in a file"])
def test_without_links_nothing_stale_is_left(run, what, number, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    REPLACED[what](run)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    for _ in range(2):
        point_latest(run, "checkpoint-8")
    assert names(run) == ["checkpoint-4", "checkpoint-8"]
    assert capsys.readouterr().err.count("this file system knows no links") == 1


def test_a_full_disk_is_no_file_system_without_links(run, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    copy_of(4)(run)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(OSError, match="No space"):
        point_latest(run, "checkpoint-8")
    assert verify(run / LATEST).step == 4
