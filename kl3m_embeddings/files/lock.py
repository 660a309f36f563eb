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
        path: a file, made if it is not there, whose folder is what is locked: the holder leaves its
            process number in it. Or a folder, which nothing is written into: one that will be
            renamed, or whose files are all listed somewhere.
        what: its holder does, for the other's message: "trains", "scores models".

    Raises:
        OutputError: the file cannot be written.
        RetryError: another process holds it.
    """
    is_folder = path.is_dir()
    with writing(path, REMEDY):
        flags = os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags, 0o644)
    try:
        with writing(path, REMEDY):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = "another process" if is_folder else f"process {read_owner(descriptor)}"
                folder = path if is_folder else path.parent
                raise RetryError(
                    f"{folder}: {owner} {what} here; wait for it, or stop it"
                ) from None
            if not is_folder:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def read_owner(descriptor: int) -> str:
    """The number of the process that holds the lock, as it has written it into the file."""
    return os.read(descriptor, MAX_OWNER_BYTES).decode(errors="replace").strip() or "unknown"
