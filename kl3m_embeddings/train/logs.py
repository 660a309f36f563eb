"""The run's log files, one JSON object a line; a checkpoint knows how far each is its own.

What lies past the checkpoint that a run resumes from did not happen: it is moved to an orphan file.
"""

import gzip
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.whole import flush_to_disk

LOG, EVAL, OBJECTS = "log.jsonl", "eval.jsonl", "objects.jsonl.gz"
LOG_FILES = (LOG, EVAL, OBJECTS)
ROWS_PER_MEMBER = 1000


@runtime_checkable
class RowWriter(Protocol):
    """Appends rows to a file."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it may be held back until `sync`."""
        ...

    def sync(self) -> int:
        """Put every row on the disk, and return the file's size in bytes."""
        ...


class JsonlWriter:
    """Plain lines; each reaches the operating system at once, so that a watcher sees it."""

    def __init__(self, file: BinaryIO) -> None:
        """Append to a file opened for that."""
        self._file = file

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        self._file.write(json_line(row))
        self._file.flush()

    def sync(self) -> int:
        """Put every row on the disk, and return the file's size in bytes."""
        flush_to_disk(self._file)
        return self._file.tell()


class GzipWriter:
    """Compressed lines: every so many rows one gzip member, and members may follow each other."""

    def __init__(self, file: BinaryIO) -> None:
        """Append to a file opened for that."""
        self._file = file
        self._lines: list[bytes] = []

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is held back until the member is full, or until `sync`."""
        self._lines.append(json_line(row))
        if len(self._lines) >= ROWS_PER_MEMBER:
            self._write_member()

    def sync(self) -> int:
        """Put every row on the disk, and return the file's size in bytes."""
        self._write_member()
        flush_to_disk(self._file)
        return self._file.tell()

    def _write_member(self) -> None:
        if self._lines:
            self._file.write(gzip.compress(b"".join(self._lines), mtime=0))
            self._lines.clear()


class NoWriter:
    """Of the ranks that write no logs."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Write nothing."""

    def sync(self) -> int:
        """Nothing was written."""
        return 0


def cut_logs(folder: Path, offsets: Mapping[str, int], step: int) -> list[str]:
    """Move what lies past `offsets` to orphan files; return what there is to say of it."""
    messages = []
    for name in LOG_FILES:
        path, offset = folder / name, offsets.get(name, 0)
        size = path.stat().st_size if path.exists() else 0
        if size < offset:
            messages.append(f"{path}: shorter than checkpoint {step} knows it; going on after it")
        elif size > offset:
            orphan = _orphan_path(path, step)
            _move_tail(path, offset, orphan)
            messages.append(f"{path}: rows past step {step} moved to {orphan.name}")
    return messages


def _orphan_path(path: Path, step: int) -> Path:
    stem, _, suffix = path.name.partition(".")
    taken: Iterable[str] = {entry.name for entry in path.parent.iterdir()}
    names = (f"{stem}.orphan-{step}-{number}.{suffix}" for number in range(1, 1 << 31))
    return path.with_name(next(name for name in names if name not in taken))


def _move_tail(path: Path, offset: int, orphan: Path) -> None:
    with path.open("rb+") as source, orphan.open("wb") as target:
        source.seek(offset)
        shutil.copyfileobj(source, target)
        flush_to_disk(target)
        source.truncate(offset)
        flush_to_disk(source)
