"""Writes token shards so that a killed build goes on where it was.

Tokens go to one shard at a time; everything else (document starts, ids, fingerprints, the
quarantine) is appended to one file each. When a shard is full:

1. all files are flushed to the disk;
2. `progress.json` records, atomically, the finished shards, length and hash of each appended file,
   the counts, and the row of the sources that comes next.

A build that finds `progress.json` cuts the appended files to the recorded lengths and reads on from
that row: the result is, byte for byte, that of a build that was never interrupted. Where a file is
not what was recorded, the build begins anew. `dataset.json` comes last and makes it a dataset.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kl3m_embeddings.data.readers.records import EMPTY, Document, Skipped
from kl3m_embeddings.data.shards.deduplicate import DUPLICATE, NEAR_DUPLICATE
from kl3m_embeddings.data.shards.progress import (
    APPENDED,
    FINGERPRINT_FILES,
    KEPT_FILES,
    PROGRESS_FILE,
    AppendedFile,
    Progress,
    WrittenFile,
    WrittenShard,
)
from kl3m_embeddings.data.shards.token_shards import (
    DATASET_FILE,
    FORMAT,
    ID_STARTS_FILE,
    IDS_FILE,
    QUARANTINE_FILE,
    STARTS_FILE,
    VERSION,
    shard_file,
)
from kl3m_embeddings.files.hashes import sha256_of_files
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.whole import flush_to_disk, write_durable_json

NO_ROOM = "free space or name another folder, and run again: finished shards are kept"
NOT_QUARANTINED = (EMPTY, DUPLICATE, NEAR_DUPLICATE)  # nothing is wrong with them: counted only


def remove_build_files(folder: Path, *, keep_dataset: bool) -> None:
    """Remove what a build leaves behind, and the dataset itself unless it is to be kept."""
    (folder / PROGRESS_FILE).unlink(missing_ok=True)
    for name in FINGERPRINT_FILES:
        (folder / name).unlink(missing_ok=True)
    if not keep_dataset:
        for name in (DATASET_FILE, *KEPT_FILES):
            (folder / name).unlink(missing_ok=True)
        for path in folder.glob("tokens-*.bin"):
            path.unlink()


@contextmanager
def open_writer(
    folder: Path, progress: Progress, dtype: np.dtype[Any], shard_tokens: int
) -> Iterator["ShardWriter"]:
    """Open a dataset's files at the lengths that the progress records.

    Args:
        folder: of the dataset.
        progress: goes on being updated.
        dtype: of the tokens.
        shard_tokens: a shard is closed before it grows beyond this.
    """
    with ExitStack() as stack:
        files = {}
        for name in APPENDED:
            written = progress.appended.get(name)
            file = _open_at(folder / name, written.num_bytes if written else 0)
            files[name] = AppendedFile(stack.enter_context(file))
        writer = ShardWriter(folder, progress, dtype, shard_tokens, files)
        stack.callback(writer.discard_open_shard)
        yield writer


class ShardWriter:
    """Appends documents to a dataset; see `open_writer`."""

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        dtype: np.dtype[Any],
        shard_tokens: int,
        files: Mapping[str, AppendedFile],
    ) -> None:
        self.progress = progress
        self._folder = folder
        self._dtype = dtype
        self._shard_tokens = shard_tokens
        self._files = files
        self._shard: BinaryIO | None = None
        self._shard_hash = hashlib.sha256()
        self._num_shard_documents = 0
        self._num_shard_tokens = 0
        for name in (STARTS_FILE, ID_STARTS_FILE):
            if files[name].num_bytes == 0:
                files[name].write(_int64(0))

    def add_document(self, document: Document, tokens: np.ndarray, row: tuple[int, int]) -> None:
        """Append a document that comes from this row of the sources."""
        if self._num_shard_tokens and self._num_shard_tokens + len(tokens) > self._shard_tokens:
            self.commit(row)
        if self._shard is None:
            self._shard = (self._folder / shard_file(len(self.progress.shards))).open("wb")
        assert tokens.dtype == self._dtype
        self._shard.write(tokens.data)
        self._shard_hash.update(tokens.data)
        self._num_shard_documents += 1
        self._num_shard_tokens += len(tokens)
        counts = self.progress.counts
        counts.num_documents += 1
        counts.num_tokens += len(tokens)
        counts.num_text_bytes += len(document.text.encode())
        self._files[STARTS_FILE].write(_int64(counts.num_tokens))
        self._files[IDS_FILE].write(document.id.encode())
        self._files[ID_STARTS_FILE].write(_int64(self._files[IDS_FILE].num_bytes))

    def add_skipped(self, skipped: Skipped) -> None:
        """Count a row that is no document; where something is wrong with it, say where it is."""
        counts = self.progress.counts.skipped
        counts[skipped.reason] = counts.get(skipped.reason, 0) + 1
        if skipped.reason not in NOT_QUARANTINED:
            self._files[QUARANTINE_FILE].write(json_line(skipped._asdict()))

    def add_fingerprints(self, fingerprints: Sequence[bytes]) -> None:
        """Keep what a document is remembered by, one for each way to find duplicates."""
        for name, fingerprint in zip(FINGERPRINT_FILES, fingerprints, strict=False):
            self._files[name].write(fingerprint)

    def commit(self, next_row: tuple[int, int]) -> None:
        """Close the open shard and record that everything before `next_row` is done."""
        if self._shard is not None:
            name = shard_file(len(self.progress.shards))
            self.progress.files[name] = WrittenFile(
                self._num_shard_tokens * self._dtype.itemsize, self._shard_hash.hexdigest()
            )
            self.progress.shards.append(
                WrittenShard(name, self._num_shard_documents, self._num_shard_tokens)
            )
            flush_to_disk(self._shard)
            self._shard.close()
            self._shard, self._shard_hash = None, hashlib.sha256()
            self._num_shard_documents = self._num_shard_tokens = 0
        for name, file in self._files.items():
            self.progress.appended[name] = file.commit()
        self.progress.next_row = next_row
        write_durable_json(self._folder / PROGRESS_FILE, asdict(self.progress), NO_ROOM)

    def finish(self, end_row: tuple[int, int]) -> None:
        """Close the last shard and make the folder a dataset."""
        self.commit(end_row)
        progress = asdict(self.progress)
        files = progress["files"] | {name: progress["appended"][name] for name in KEPT_FILES}
        dataset = {
            "format": FORMAT,
            "version": VERSION,
            **self.progress.identity,
            "dtype": self._dtype.name,
            **progress["counts"],
            "shards": progress["shards"],
            "files": files,
            "sha256": sha256_of_files(files),
        }
        write_durable_json(self._folder / DATASET_FILE, dataset, NO_ROOM)
        remove_build_files(self._folder, keep_dataset=True)

    def discard_open_shard(self) -> None:
        """Remove the shard that was not finished: its tokens will be made again."""
        if self._shard is not None:
            Path(self._shard.name).unlink()
            self._shard.close()


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open a file to append to it from `size` on; what comes after is cut off."""
    file = path.open("r+b" if size else "wb")
    file.truncate(size)
    file.seek(size)
    return file


def _int64(value: int) -> bytes:
    """An entry of the files of starts."""
    return value.to_bytes(8, "little", signed=True)
