"""What a path names, in words; and names that are no UTF-8."""

import os
import socket
from pathlib import Path

import pytest

from kl3m_embeddings.data.readers.documents import list_sources
from kl3m_embeddings.errors import DataError, UserError
from kl3m_embeddings.files.path_kind import readable_name, utf8_folder, walk, why_not
from kl3m_embeddings.files.source import resolve_source
from kl3m_embeddings.files.strict_json import read_json_object


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A path of each kind."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    yield tmp_path
    server.close()


@pytest.mark.parametrize(
    ("name", "wanted", "reason"),
    [
        ("file", "file", None),
        ("folder", "folder", None),
        ("file", "folder", "a file, not a folder"),
        ("folder", "file", "a folder, not a file"),
        ("pipe", "file", "a named pipe, not a file"),
        ("pipe", "folder", "a named pipe, not a folder"),
        ("socket", "file", "a socket, not a file"),
        ("/dev/null", "file", "a device, not a file"),
        ("link", "file", "a link to 'nowhere', which is not there"),
        ("loop", "folder", "a link to 'loop', which is not there"),
        ("none", "file", "no such file"),
        ("file/below", "folder", "no such folder"),
        ("n\0l", "file", "no such file"),
        ("x" * 5000, "file", "no such file"),
    ],
)
def test_each_kind_is_called_what_it_is(places, name, wanted, reason):
    assert why_not(places / name, wanted) == reason


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"


@pytest.mark.parametrize(
    ("content", "is_pointer"),
    [
        (POINTER, True),
        (POINTER.replace("\n", "\r\n"), True),
        (f"Each {POINTER}", False),
        (POINTER.ljust(1024), False),  # a text about them
        (POINTER[:30], False),
        ("", False),
    ],
)
def test_a_large_file_that_was_not_fetched_is_told(tmp_path, content, is_pointer):
    (tmp_path / "file").write_text(content, newline="")
    reason = why_not(tmp_path / "file", "file")
    assert ("git lfs pull" in (reason or "")) == is_pointer
    assert is_pointer or reason is None


@pytest.mark.parametrize("name", ["documents.txt", "rows.jsonl", "rows.csv", "rows.parquet"])
def test_no_pointer_is_read_as_text_or_rows(tmp_path, name):
    (tmp_path / name).write_text(POINTER)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=rf"{name}: a Git LFS pointer.*git lfs pull"):
            list_sources(source)


def test_what_may_not_be_read_is_told(places, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert why_not(places / "file", "file") == "may not be read: mend its rights"


@pytest.mark.parametrize("name", ["pipe", "socket", "/dev/null", "link", "loop"])
@pytest.mark.parametrize("read", [read_json_object, resolve_source])
def test_what_is_no_file_is_not_waited_for(places, read, name):
    with pytest.raises(UserError, match=r"named pipe|socket|device|a link to") as error:
        read(places / name)
    assert "\n" not in str(error.value)


def test_linked_folders_are_walked_once(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("a/1", "a/b/2", "elsewhere/3"):
        (tmp_path / name).touch()
    (tmp_path / "a/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/dangling").symlink_to("nowhere")
    found = [path.relative_to(tmp_path / "a").as_posix() for path in walk(tmp_path / "a")]
    assert sorted(found) == ["1", "b/2", "dangling", "linked/3"]


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"mod\xe8le")
    assert readable_name(Path(name) / "é") == "mod\\xe8le/é"
    folder = tmp_path / name
    folder.mkdir()
    with utf8_folder(tmp_path) as same:
        assert same == tmp_path
    with utf8_folder(folder) as place:
        str(place).encode()
        (place / "x").touch()
    assert (folder / "x").exists() and not place.exists()
