"""What an interrupted build has left is gone on with as it was written, or not at all."""

import json

import numpy as np
import pytest

from kl3m_embeddings.data.readers.records import Document
from kl3m_embeddings.data.shards.progress import (
    PROGRESS_FILE,
    AppendedFile,
    Progress,
    WrittenFile,
    read_progress,
)
from kl3m_embeddings.data.shards.writer import open_writer
from kl3m_embeddings.files.hashes import sha256_of_file

IDENTITY = {"name": "tiny"}
DTYPE = np.dtype("<u2")


@pytest.fixture
def folder(tmp_path):
    """Of a build that was left after its second shard."""
    progress = Progress(dict(IDENTITY))
    with open_writer(tmp_path, progress, DTYPE, 4) as writer:
        for number in range(3):
            tokens = np.full(3, number, dtype=DTYPE)
            writer.add_document(Document(f"id-{number}", "é"), tokens, (0, number))
            writer.add_fingerprints([b"12345678"])
    return tmp_path


def test_what_was_committed_is_gone_on_with(folder):
    found = read_progress(folder, IDENTITY)
    assert found.next_row == (0, 2)
    assert [one.num_tokens for one in found.shards] == [3, 3]
    assert found.counts.num_documents == 2


def test_anothers_progress_is_of_no_use(folder):
    other = IDENTITY | {"name": "other"}
    assert read_progress(folder, other) == Progress(other)
    assert read_progress(folder / "none", IDENTITY) == Progress(IDENTITY)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"identity"', "[" * 100_000, '{"identity": ' + "9" * 5000]
)
def test_a_file_that_is_no_progress_is_told_and_the_build_begins_anew(folder, capsys, text):
    (folder / PROGRESS_FILE).write_text(text)
    assert read_progress(folder, IDENTITY) == Progress(IDENTITY)
    assert "progress.json" in (told := capsys.readouterr().err)
    assert "the build begins anew" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"next_row": [0]},
        {"next_row": [0, -1]},
        {"counts": {"num_documents": "2"}},
        {"shards": []},
        {"files": {}},
        {"appended": {}},
        {"appended": None},
    ],
)
def test_absurd_values_are_no_progress(folder, capsys, change):
    saved = json.loads((folder / PROGRESS_FILE).read_text())
    (folder / PROGRESS_FILE).write_text(json.dumps(saved | change))
    assert read_progress(folder, IDENTITY) == Progress(IDENTITY)
    assert "the build begins anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["tokens-00001.bin", "ids.bin", "document_starts.bin", "exact.fingerprints"]
)
@pytest.mark.parametrize("damage", ["emptied", "overwritten in place", "gone"])
def test_a_file_that_is_not_as_it_was_written_begins_the_build_anew(folder, capsys, name, damage):
    file = folder / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "emptied" else b"7" * file.stat().st_size)
    assert read_progress(folder, IDENTITY) == Progress(IDENTITY)
    assert name in capsys.readouterr().err


def test_a_file_is_hashed_as_it_grows(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with path.open("r+b") as file:
        file.seek(0, 2)
        grown = AppendedFile(file)
        grown.write(b" and after")
        expected = WrittenFile(16, sha256_of_file(path) if file.flush() is None else "")
        assert grown.commit() == expected
