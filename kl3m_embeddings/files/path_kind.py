"""What a path names: a file, a folder, or what is neither and would be waited for without end."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

Wanted = Literal["file", "folder"]

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_MAX_BYTES = 1024
"""The specification's own limit (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def why_not(path: str | Path, wanted: Wanted) -> str | None:
    """Why a path is no file, or no folder, that can be read; None where it is one."""
    path = Path(path)
    try:
        kind = KINDS.get(stat.S_IFMT(path.stat().st_mode), "of a kind of its own")
    except (OSError, ValueError) as error:  # a ValueError: NUL in the name
        with suppress(OSError, ValueError):  # of what is no link, or no name at all
            return f"a link to {str(path.readlink())!r}, which is not there"
        if isinstance(error, PermissionError):
            return "a folder on the way to it may not be read: mend its rights"
        return f"no such {wanted}"
    if kind != f"a {wanted}":
        return f"{kind}, not a {wanted}"
    if not os.access(path, os.R_OK):
        return "may not be read: mend its rights"
    if wanted == "file" and is_lfs_pointer(path):
        return "a Git LFS pointer, not the file that it stands for: fetch that by `git lfs pull`"
    return None


def is_lfs_pointer(path: Path) -> bool:
    """Whether a clone without Git LFS has left a few lines of text in place of a large file."""
    if path.stat().st_size >= LFS_MAX_BYTES:
        return False
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def readable_name(path: Path) -> str:
    """A path with slashes, as UTF-8 can hold it: a byte that is none stands there in hex."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")


@contextmanager
def utf8_folder(folder: Path) -> Iterator[Path]:
    """The folder itself, or a link to it, for libraries that take no name that is no UTF-8."""
    if readable_name(folder) == folder.as_posix():
        yield folder
        return
    with TemporaryDirectory() as place:
        link = Path(place) / "link"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield link


def walk(folder: Path) -> Iterator[Path]:
    """All below a folder that is no folder itself; linked folders are followed, each once.

    Raises:
        OSError: a folder cannot be read.
    """
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        status = Path(root).stat()
        if (place := (status.st_dev, status.st_ino)) in seen:
            folders.clear()  # a link to what has been walked
            continue
        seen.add(place)
        folders.sort()
        yield from (Path(root) / name for name in sorted(files))


def _raise(error: OSError) -> None:
    raise error
