"""One process a folder for each kind of work: the kernel frees the lock however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kl3m_embeddings.errors import RetryError, writing

LOCK_FILE = ".lock"
"""Of training."""
MAX_OWNER_BYTES = 32
REMEDY = "make room, or mend its rights"


@contextmanager
def folder_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder while inside.

    Args:
        path: a file in it, made if it is not there; the holder leaves its process number in it.
        what: its holder does, for the other's message: "trains", "scores models".

    Raises:
        OutputError: the file cannot be written.
        RetryError: another process holds it.
    """
    with writing(path, REMEDY):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with writing(path, REMEDY):
            take(descriptor, f"{path.parent}: process {read_owner(descriptor)} {what}")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def build_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder that nothing may be written into for it.

    It will be renamed, or all that is in it is listed somewhere.

    Args:
        folder: is there.
        what: its holder does: "builds a dataset".

    Raises:
        RetryError: another process holds it, or has just finished with it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise RetryError(f"{folder}: another process was at work here; run again") from None
    try:
        take(descriptor, f"{folder}: another process {what}")
        yield
    finally:
        os.close(descriptor)


def take(descriptor: int, holder: str) -> None:
    """Lock an open file or folder; `holder` is who else may have done so.

    Raises:
        RetryError: somebody has.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RetryError(f"{holder} here; wait for it, or stop it") from None


def read_owner(descriptor: int) -> str:
    """The number of the process that holds the lock, as it has written it into the file."""
    return os.pread(descriptor, MAX_OWNER_BYTES, 0).decode(errors="replace").strip() or "unknown"
