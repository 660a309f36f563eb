"""How far a build of token shards has come, and what of it is still as it was written.

`progress.json` records the finished shards and how much of each appended file is written for good,
with their hashes. A build that finds a file changed, cut or gone begins anew.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from kl3m_embeddings.data.shards.token_shards import (
    ID_STARTS_FILE,
    IDS_FILE,
    QUARANTINE_FILE,
    STARTS_FILE,
)
from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.records import Count, read_record
from kl3m_embeddings.files.whole import flush_to_disk
from kl3m_embeddings.messages import warn

PROGRESS_FILE = "progress.json"
FINGERPRINT_FILES = ("exact.fingerprints", "near.fingerprints")
KEPT_FILES = (STARTS_FILE, IDS_FILE, ID_STARTS_FILE, QUARANTINE_FILE)
APPENDED = (*KEPT_FILES, *FINGERPRINT_FILES)
ANEW = "the build begins anew"
BLOCK_BYTES = 1 << 20


@dataclass
class Counts:
    """What a build has seen so far."""

    num_documents: Count = 0
    num_tokens: Count = 0
    num_text_bytes: Count = 0
    num_duplicates: Count = 0
    skipped: dict[str, Count] = field(default_factory=dict)


@dataclass
class WrittenFile:
    """How much of a file is written for good, and the SHA-256 of that."""

    num_bytes: Count
    sha256: str


@dataclass
class WrittenShard:
    """A finished shard, as `dataset.json` lists it."""

    file: str
    num_documents: Count
    num_tokens: Count


@dataclass
class Progress:
    """A consistent state of a build, as `progress.json` keeps it.

    Attributes:
        identity: what the result depends on; another build's progress is of no use.
        next_row: (source, row) that comes next.
        shards: the finished ones, as `dataset.json` lists them.
        files: the finished shards.
        appended: the other files.
    """

    identity: dict[str, Any]
    next_row: tuple[Count, Count] = (0, 0)
    counts: Counts = field(default_factory=Counts)
    shards: list[WrittenShard] = field(default_factory=list)
    files: dict[str, WrittenFile] = field(default_factory=dict)
    appended: dict[str, WrittenFile] = field(default_factory=dict)


def read_progress(folder: Path, identity: Mapping[str, Any]) -> Progress:
    """The progress of an interrupted build of the same dataset, or that of a new one.

    What it records is compared with what is there; a new one where they differ.
    """
    new = Progress(dict(identity))
    path = folder / PROGRESS_FILE
    if not path.exists():
        return new
    try:
        saved = read_record(path, Progress, ANEW)
        if saved.identity != identity:
            return new
        _check_written(folder, saved)
    except DamagedError as error:
        warn(str(error))
        return new
    return saved


def _check_written(folder: Path, saved: Progress) -> None:
    """Compare the files of an interrupted build with their hashes."""
    expected = {one.file for one in saved.shards}
    if expected != saved.files.keys() or set(APPENDED) != saved.appended.keys():
        raise DamagedError(f"{folder / PROGRESS_FILE}: a file is missing from it; {ANEW}")
    for name, file in {**saved.files, **saved.appended}.items():
        path = folder / name
        try:
            is_whole = _hash_of(path, file.num_bytes).hexdigest() == file.sha256
        except OSError as error:
            raise DamagedError(f"{path}: cannot be read: {error.strerror}; {ANEW}") from None
        if not is_whole:
            raise DamagedError(f"{path}: not as it was written; {ANEW}")


def _hash_of(path: Path, num_bytes: int) -> Any:  # noqa: ANN401 - hashlib's own, unnamed
    """SHA-256 of the first bytes of a file, which can be updated with what follows."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while num_bytes and (block := file.read(min(num_bytes, BLOCK_BYTES))):
            found.update(block)
            num_bytes -= len(block)
    return found


class AppendedFile:
    """A file that is written to the end only, and hashed as it grows."""

    def __init__(self, file: BinaryIO) -> None:
        """Go on with a file that is open where it ends."""
        self.num_bytes = file.tell()
        self._file = file
        self._hash = _hash_of(Path(file.name), self.num_bytes)

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)
        self._hash.update(data)
        self.num_bytes += len(data)

    def commit(self) -> WrittenFile:
        """Put it on the disk."""
        flush_to_disk(self._file)
        return WrittenFile(self.num_bytes, self._hash.hexdigest())
