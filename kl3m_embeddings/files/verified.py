"""Files compared with their recorded SHA-256 once a build and host, and again when touched.

Hashing a large dataset at every start would cost minutes, and sizes alone miss a file that was
overwritten in place. So what was found whole is remembered in the cache: each file's size, times
of change and inode. As long as these are the same, nobody has written to it. Where nothing can be
remembered, everything is hashed again.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import DamagedError, OutputError
from kl3m_embeddings.files.cache import cache_folder
from kl3m_embeddings.files.hashes import verify_files
from kl3m_embeddings.files.records import Record, read_record
from kl3m_embeddings.files.whole import write_whole
from kl3m_embeddings.messages import say

TOLD_BYTES = 4 << 30
"""Hashing more takes long enough to be told of."""

Signature = tuple[int, int, int, int]
"""Size, time of the content's change, of the file's, inode."""


class Verified(Record):
    """What was found whole."""

    sha256: str
    """Of the whole."""
    files: dict[str, Signature]


def verify_once(path: Path, info: Mapping[str, Any], remedy: str) -> None:
    """Compare the files that `dataset.json` names with their SHA-256, unless that was done before.

    Args:
        path: the folder.
        info: its `dataset.json`, read.
        remedy: what helps if a file differs.

    Raises:
        DamagedError: naming the first file that differs.
    """
    memory = _memory(path)
    try:
        files = {name: _signature(path / name) for name in info["files"]}  # before they are read
    except OSError as error:
        raise DamagedError(
            f"{error.filename}: cannot be read: {error.strerror}; {remedy}"
        ) from None
    if _remembered(memory) == (info["sha256"], files):
        return
    num_bytes = sum(size for size, *_ in files.values())
    if num_bytes > TOLD_BYTES:
        say(f"{path}: comparing {num_bytes / 1e9:,.0f} GB with their SHA-256, once on this machine")
    verify_files(path, info, remedy)
    _remember(memory, {"sha256": info["sha256"], "files": files})


def _memory(path: Path) -> Path:
    """Where it is remembered: a shared cache serves several machines, which do not share disks."""
    place = f"{platform.node()}\0{path.resolve()}".encode(errors="surrogateescape")
    return cache_folder("verified") / f"{hashlib.sha256(place).hexdigest()[:16]}.json"


def _signature(file: Path) -> Signature:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _remembered(memory: Path) -> tuple[str, dict[str, Signature]] | None:
    try:
        found = read_record(memory, Verified, "it is written again")
    except DamagedError:  # none, or a damaged one
        return None
    return found.sha256, found.files


def _remember(memory: Path, verified: Mapping[str, Any]) -> None:
    try:
        write_whole(memory, json.dumps(verified))
    except OutputError:
        return  # nothing depends on it but time
