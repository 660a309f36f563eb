"""Writes token shards so that a killed build goes on where it was.

Tokens go to one shard at a time; everything else (document starts, ids, fingerprints, the
quarantine) is appended to one file each. When a shard is full:

1. all files are flushed to the disk;
2. `progress.json` records, atomically, the finished shards, the length of each appended file, the
   counts, and the row of the sources that comes next.

A build that finds `progress.json` cuts the appended files to the recorded lengths and reads on from
that row: the result is, byte for byte, that of a build that was never interrupted. `dataset.json`
comes last and makes it a dataset.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kl3m_embeddings.data.readers.records import EMPTY, Document, Skipped
from kl3m_embeddings.data.shards.deduplicate import DUPLICATE, NEAR_DUPLICATE
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
from kl3m_embeddings.files.hashes import sha256_of_file, sha256_of_files
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.whole import flush_to_disk, write_durable_json

PROGRESS_FILE = "progress.json"
NO_ROOM = "free space or name another folder, and run again: finished shards are kept"
FINGERPRINT_FILES = ("exact.fingerprints", "near.fingerprints")
KEPT_FILES = (STARTS_FILE, IDS_FILE, ID_STARTS_FILE, QUARANTINE_FILE)
NOT_QUARANTINED = (EMPTY, DUPLICATE, NEAR_DUPLICATE)  # nothing is wrong with them: counted only


@dataclass
class Counts:
    """What a build has seen so far."""

    num_documents: int = 0
    num_tokens: int = 0
    num_text_bytes: int = 0
    num_duplicates: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass
class Progress:
    """A consistent state of a build, as `progress.json` keeps it.

    Attributes:
        identity: what the result depends on; another build's progress is of no use.
        next_row: (source, row) that comes next.
        shards: the finished ones, as `dataset.json` lists them.
        files: size and SHA-256 of the finished shards.
        sizes: lengths of the appended files, in bytes.
    """

    identity: Mapping[str, Any]
    next_row: tuple[int, int] = (0, 0)
    counts: Counts = field(default_factory=Counts)
    shards: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def read_progress(folder: Path, identity: Mapping[str, Any]) -> Progress:
    """The progress of an interrupted build of the same dataset, or that of a new one."""
    try:
        saved = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Progress(identity)
    if saved["identity"] != identity:
        return Progress(identity)
    saved["next_row"] = tuple(saved["next_row"])
    saved["counts"] = Counts(**saved["counts"])
    return Progress(**saved)


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
        files = {
            name: stack.enter_context(_open_at(folder / name, progress.sizes.get(name, 0)))
            for name in (*KEPT_FILES, *FINGERPRINT_FILES)
        }
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
        files: Mapping[str, BinaryIO],
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
            if files[name].tell() == 0:
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
        self._files[ID_STARTS_FILE].write(_int64(self._files[IDS_FILE].tell()))

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
            self.progress.files[name] = {
                "num_bytes": self._num_shard_tokens * self._dtype.itemsize,
                "sha256": self._shard_hash.hexdigest(),
            }
            self.progress.shards.append(
                {
                    "file": name,
                    "num_documents": self._num_shard_documents,
                    "num_tokens": self._num_shard_tokens,
                }
            )
            flush_to_disk(self._shard)
            self._shard.close()
            self._shard, self._shard_hash = None, hashlib.sha256()
            self._num_shard_documents = self._num_shard_tokens = 0
        for name, file in self._files.items():
            flush_to_disk(file)
            self.progress.sizes[name] = file.tell()
        self.progress.next_row = next_row
        write_durable_json(self._folder / PROGRESS_FILE, asdict(self.progress), NO_ROOM)

    def finish(self, end_row: tuple[int, int]) -> None:
        """Close the last shard and make the folder a dataset."""
        self.commit(end_row)
        files = dict(self.progress.files)
        for name in KEPT_FILES:
            path = self._folder / name
            files[name] = {"num_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        dataset = {
            "format": FORMAT,
            "version": VERSION,
            **self.progress.identity,
            "dtype": self._dtype.name,
            **asdict(self.progress.counts),
            "shards": self.progress.shards,
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
