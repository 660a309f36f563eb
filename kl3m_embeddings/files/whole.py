"""Files that are there whole or not at all.

A file is written beside its place, under a hidden name, and renamed into it: a reader, or a
process after one that died, sees the old content or the new. Two writers:

- `whole_file` survives the death of the process;
- `durable_file` survives that of the machine, too: content and name are on the disk (fsync) before
  it returns. It is for what says that other files are complete.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kl3m_embeddings.errors import OutputError, writing

REMEDY = "make room, or choose another folder with --out"


@contextmanager
def whole_file(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when the block ends well.

    Args:
        path: its folder is made, if it is not there.
        remedy: what the person can do if it cannot be written.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(os.path.realpath(path))  # what a link names is replaced, not the link
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: not a file: name one, or a place where there is nothing yet")
    # a name of its own: another process may be writing the same file
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    make_folder(path.parent, remedy)
    with writing(path, remedy):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def durable_file(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """As `whole_file`, and on the disk when it returns."""
    with whole_file(path, remedy) as temporary:
        yield temporary
        sync(temporary)
    sync(path.parent)


def write_whole(path: Path, text: str, remedy: str = REMEDY) -> None:
    """Write a text file; lines end as they do in `text`. Arguments and errors: see `whole_file`."""
    with whole_file(path, remedy) as temporary:
        temporary.write_bytes(utf8(text))


def utf8(text: str) -> bytes:
    """UTF-8; a lone surrogate, which stands for a byte of a name that is no UTF-8, is escaped.

    In JSON this is what JSON itself writes for it, so that such a name is read back as it was.
    """
    return text.encode(errors="backslashreplace")


def write_durable_json(path: Path, value: object, remedy: str = REMEDY) -> None:
    """Write a JSON file, one that says of others that they are complete; see `durable_file`."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    with durable_file(path, remedy) as temporary:
        temporary.write_bytes(utf8(text) + b"\n")


def make_folder(folder: Path, remedy: str = REMEDY) -> None:
    """Make a folder, unless it is there.

    Raises:
        OutputError: it cannot be made.
    """
    with writing(folder, remedy):
        folder.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Put a file's content, or a folder's names, where a power cut does not reach them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_to_disk(file: BinaryIO) -> None:
    """As `sync`, of a file that is open to write and stays so."""
    file.flush()
    os.fsync(file.fileno())
