"""One process a folder for each kind of work: the kernel frees the lock however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kl3m_embeddings.errors import OutputError, RetryError

LOCK_FILE = ".lock"
"""Of training."""
MAX_OWNER_BYTES = 32


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
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        take(file, path, what)
        yield
    finally:
        os.close(file)


def take(file: int, path: Path, what: str) -> None:
    """Lock the open file, and write into it who has done so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
    except BlockingIOError:
        owner = os.read(file, MAX_OWNER_BYTES).decode(errors="replace").strip() or "unknown"
        raise RetryError(
            f"{path.parent}: process {owner} {what} here; wait for it, or stop it"
        ) from None
    except OSError as error:
        raise not_writable(path, error) from error


def not_writable(path: Path, error: OSError) -> OutputError:
    """What is told of a file that cannot be written."""
    return OutputError(
        f"{path}: cannot be written: {error.strerror}: make room, or mend its rights"
    )
