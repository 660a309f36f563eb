"""Files that are there whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from kl3m_embeddings.errors import OutputError
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.whole import durable_file, whole_file, write_durable_json, write_whole


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"file: cannot be written: File exists; make room"
    ) as caught:
        write_whole(tmp_path / "file" / "rows.jsonl", "")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 73


def test_line_ends_stay_as_they_are(tmp_path):
    write_whole(tmp_path / "table.csv", "a\r\n")
    assert (tmp_path / "table.csv").read_bytes() == b"a\r\n"


@pytest.mark.parametrize("writer", [whole_file, durable_file])
def test_until_the_block_ends_the_old_content_is_there(writer, tmp_path):
    path = tmp_path / "new folder" / "file"
    write_whole(path, "old")
    with writer(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("writer", [whole_file, durable_file])
def test_a_block_that_fails_leaves_the_old_content_and_nothing_else(writer, tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(KeyError), writer(path) as temporary:
        temporary.write_text("half of what was meant")
        raise KeyError
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_durable_files_are_synced_before_they_get_their_name(tmp_path, monkeypatch):
    """The content, then the name: a power cut in between leaves the old file."""
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: events.append("sync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *names: events.append("name") or replace(*names))
    write_durable_json(tmp_path / "dataset.json", {"é": 1})
    assert events == ["sync", "name", "sync"]
    assert json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8")) == {"é": 1}
    events.clear()
    write_whole(tmp_path / "table.csv", "")
    assert events == ["name"]


def test_two_who_write_one_file_at_once_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as first:
        first.write_text("first")
        with whole_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "named")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "named").read_text() == "text"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(OutputError, match=f"^{path}: not a file: name one"):
            write_whole(path, "text")
    assert Path("/dev/null").is_char_device()


def test_an_error_without_a_reason_shows_what_there_is(tmp_path):
    with (
        pytest.raises(OutputError, match="cannot be written: 7 of 9 bytes; make room"),
        whole_file(tmp_path / "file"),
    ):
        raise OSError("7 of 9 bytes")


def test_a_name_that_is_no_utf8_is_read_back_from_json(tmp_path):
    value = {os.fsdecode(b"caf\xe9\\"): ["é", os.fsdecode(b"\xff\xfe")]}
    write_durable_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")  # strict: the file is UTF-8
    assert json.loads(text) == value
    assert json.loads(json_line(value)) == value
    write_whole(tmp_path / "x.txt", "caf\udce9")
    assert (tmp_path / "x.txt").read_bytes() == b"caf\\udce9"
