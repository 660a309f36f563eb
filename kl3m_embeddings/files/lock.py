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
    """Hold a lock while inside.

    Args:
        path: the file; its folder is there.
        what: its holder does, for the other's message: "trains", "scores models".

    Raises:
        OutputError: the file cannot be written.
        RetryError: another process holds it.
    """
    with writing(path, REMEDY):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        take(file, path, what)
        yield
    finally:
        os.close(file)


def take(file: int, path: Path, what: str) -> None:
    """Lock the open file, and write into it who has done so."""
    with writing(path, REMEDY):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, MAX_OWNER_BYTES).decode(errors="replace").strip() or "unknown"
            raise RetryError(
                f"{path.parent}: process {owner} {what} here; wait for it, or stop it"
            ) from None
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
