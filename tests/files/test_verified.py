"""What was found whole is not hashed again until it is touched."""

import os

import pytest

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files import verified as verified_module
from kl3m_embeddings.files.hashes import sha256_of_file, sha256_of_files
from kl3m_embeddings.files.verified import verify_once

REMEDY = "make it again"


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "verified"


@pytest.fixture
def folder(tmp_path, cache):
    (tmp_path / "data/sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (tmp_path / "data" / name).write_bytes(name.encode() * 100)
    return tmp_path / "data"


@pytest.fixture
def info(folder):
    files = {name: {"sha256": sha256_of_file(folder / name)} for name in ("a", "sub/b")}
    return {"files": files, "sha256": sha256_of_files(files)}


@pytest.fixture
def hashed(monkeypatch):
    """The folders that were read whole."""
    folders = []
    compare = verified_module.verify_files

    def counted(path, *arguments):
        folders.append(path)
        compare(path, *arguments)

    monkeypatch.setattr(verified_module, "verify_files", counted)
    return folders


def test_what_was_found_whole_is_hashed_once(folder, info, hashed):
    for _ in range(3):
        verify_once(folder, info, REMEDY)
    assert hashed == [folder]


def test_what_was_touched_is_hashed_again(folder, info, hashed):
    verify_once(folder, info, REMEDY)
    (folder / "a").touch()
    verify_once(folder, info, REMEDY)
    verify_once(folder, info, REMEDY)
    assert len(hashed) == 2


def test_an_overwritten_file_is_found_though_size_and_time_are_as_before(folder, info):
    verify_once(folder, info, REMEDY)
    before = (folder / "sub/b").stat()
    (folder / "sub/b").write_bytes(b"x" * before.st_size)
    os.utime(folder / "sub/b", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedError, match=r"sub/b: its SHA-256 .*; make it again$"):
        verify_once(folder, info, REMEDY)
    with pytest.raises(DamagedError):  # and stays so
        verify_once(folder, info, REMEDY)


def test_another_dataset_in_the_same_place_is_hashed(folder, info, hashed):
    verify_once(folder, info, REMEDY)
    with pytest.raises(DamagedError):
        verify_once(folder, {"files": {"a": {"sha256": ""}}, "sha256": "other"}, REMEDY)
    assert len(hashed) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1}', "no JSON"])
def test_a_damaged_memory_is_none(folder, info, hashed, cache, text):
    verify_once(folder, info, REMEDY)
    (memory,) = cache.iterdir()
    memory.write_text(text)
    verify_once(folder, info, REMEDY)
    verify_once(folder, info, REMEDY)
    assert len(hashed) == 2


def test_where_nothing_can_be_remembered_everything_is_hashed(folder, info, hashed, cache):
    cache.parent.write_text("a file")
    verify_once(folder, info, REMEDY)
    verify_once(folder, info, REMEDY)
    assert len(hashed) == 2


def test_a_missing_file_is_told(folder, info):
    (folder / "a").unlink()
    with pytest.raises(DamagedError, match=r"a: cannot be read: No such file .*; make it again$"):
        verify_once(folder, info, REMEDY)


def test_long_hashing_is_told_of(folder, info, monkeypatch, capsys):
    verify_once(folder, info, REMEDY)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(verified_module, "TOLD_BYTES", 10)
    (folder / "a").touch()
    verify_once(folder, info, REMEDY)
    assert "once on this machine" in capsys.readouterr().err
