"""Files that are there whole or not at all."""

import json
import os

import pytest

from kl3m_embeddings.errors import OutputError
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
