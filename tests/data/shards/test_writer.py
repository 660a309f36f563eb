"""Documents written whole, or with the writer gone at any place: the same bytes."""

import json

import numpy as np
import pytest

from kl3m_embeddings.data.readers.records import Document, Skipped
from kl3m_embeddings.data.shards.progress import PROGRESS_FILE, read_progress
from kl3m_embeddings.data.shards.token_shards import TokenShards
from kl3m_embeddings.data.shards.writer import open_writer, remove_build_files

LENGTHS = [3, 0, 5, 2, 9, 1, 1, 4]
SHARD_TOKENS = 6
IDENTITY = {"name": "tiny", "tokenizer": {"fingerprint": "f", "vocab_size": 300}}
DTYPE = np.dtype("<u2")


class Gone(Exception):
    """The process ends here."""


def write(folder, *, gone_before=None, identity=IDENTITY):
    """Write every document that the progress does not have; True if none was there before."""
    folder.mkdir(exist_ok=True)
    progress = read_progress(folder, identity)
    first = progress.next_row[1]
    with open_writer(folder, progress, DTYPE, SHARD_TOKENS) as writer:
        for number in range(first, len(LENGTHS)):
            if number == gone_before:
                raise Gone
            tokens = np.arange(LENGTHS[number], dtype=DTYPE) + 10 * number
            writer.add_document(Document(f"id-{number}", "é" * number), tokens, (0, number))
            if number == 2:
                writer.add_skipped(Skipped("x.jsonl", 4, "no text"))
                writer.add_skipped(Skipped("x.jsonl", 5, "empty"))
            writer.add_fingerprints([bytes([number])])
        writer.finish((1, 0))
    return first == 0


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path):
    write(tmp_path / "whole")
    return tmp_path / "whole"


def test_what_was_written_is_read(whole):
    shards = TokenShards.open(whole)
    for number, length in enumerate(LENGTHS):
        expected = (np.arange(length) + 10 * number).tolist()
        assert shards.document_tokens(number).tolist() == expected
        assert shards.document_id(number) == f"id-{number}"
    shards.verify()
    info = shards.info
    assert (info["num_documents"], info["num_tokens"]) == (len(LENGTHS), sum(LENGTHS))
    assert info["num_text_bytes"] == 2 * sum(range(len(LENGTHS)))
    assert info["skipped"] == {"no text": 1, "empty": 1}
    quarantine = (whole / "quarantine.jsonl").read_text()
    assert json.loads(quarantine) == {"file": "x.jsonl", "line": 4, "reason": "no text"}
    assert PROGRESS_FILE not in contents(whole)


def test_a_shard_ends_before_it_grows_beyond_its_size_and_a_longer_document_has_its_own(whole):
    """3 + 0, then 5, then 2 (2 + 9 are too many), then 9, then 1 + 1 + 4."""
    shards = TokenShards.open(whole).info["shards"]
    assert [(one["num_documents"], one["num_tokens"]) for one in shards] == [
        (2, 3), (1, 5), (1, 2), (1, 9), (3, 6)
    ]  # fmt: skip
    for one in shards:
        assert (whole / one["file"]).stat().st_size == 2 * one["num_tokens"]


@pytest.mark.parametrize("place", range(1, len(LENGTHS)))
def test_gone_anywhere_and_begun_again_gives_the_same_bytes(whole, tmp_path, place):
    folder = tmp_path / "parts"
    with pytest.raises(Gone):
        write(folder, gone_before=place)
    shard_files = {path.name for path in folder.glob("tokens-*")}
    done = read_progress(folder, IDENTITY)
    assert shard_files == {one.file for one in done.shards}  # the open one is no more
    assert write(folder) == (not done.shards)
    assert contents(folder) == contents(whole)


def test_what_a_build_leaves_behind_is_removed(whole):
    (whole / PROGRESS_FILE).write_text("{}")
    (whole / "mine.txt").write_text("x")
    remove_build_files(whole, keep_dataset=True)
    assert PROGRESS_FILE not in contents(whole)
    TokenShards.open(whole)
    remove_build_files(whole, keep_dataset=False)
    assert contents(whole) == {"mine.txt": b"x"}
