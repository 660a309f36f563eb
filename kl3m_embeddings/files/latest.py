"""`latest`: a link in the model folder that names its newest checkpoint.

Tools that follow links (cp -rL, zip, object stores) make a folder of it, others a file with the
name in it, and some file systems know no links. Whatever stands in its place gives way: the copy of
a checkpoint that is there anyway is deleted, anything else gets another name.
"""

import errno
from functools import cache
from pathlib import Path

from kl3m_embeddings.errors import DataError
from kl3m_embeddings.files.checkpoint import (
    CHECKPOINT_NAME,
    MANIFEST,
    UNFINISHED,
    files_in,
    remove,
    set_aside,
    verify,
)
from kl3m_embeddings.files.whole import sync
from kl3m_embeddings.messages import warn

LATEST = "latest"
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems that know no links answer."""


def point_latest(folder: Path, name: str) -> None:
    """Make the link `latest` name a checkpoint, in one rename.

    Args:
        folder: the model folder.
        name: of a checkpoint in it.
    """
    place, link = folder / LATEST, folder / f"{UNFINISHED}{LATEST}"
    if place.is_symlink() and place.readlink() == Path(name):
        return
    remove(link)
    try:
        link.symlink_to(name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        make_way(place)
        say_once(f"{folder}: this file system knows no links: there is no {LATEST}; name {name}")
        return
    make_way(place)
    link.rename(place)
    sync(folder)


def make_way(place: Path) -> None:
    """Delete what stands for a checkpoint where the link belongs; anything else is renamed."""
    if place.is_symlink() or not place.exists():
        return  # a link is replaced by the rename
    if is_copy(place):
        doomed = place.with_name(f"{UNFINISHED}doomed-{LATEST}")
        place.rename(doomed)
        remove(doomed)
    else:
        aside = set_aside(place, "replaced")
        warn(f"{place}: not the link that belongs here, nor a copy of a checkpoint: now {aside}")


def is_copy(place: Path) -> bool:
    """Whether `latest`, a file or folder, holds nothing but a checkpoint that is there, too."""
    if place.is_file():
        return bool(CHECKPOINT_NAME.fullmatch(place.read_text(errors="replace").strip()))
    try:
        copy = verify(place)
        original = verify(place.with_name(f"checkpoint-{copy.step}"))
    except DataError:
        return False
    found = {file.relative_to(place).as_posix() for file in files_in(place)}
    return copy.manifest == original.manifest and found == {MANIFEST, *copy.manifest["files"]}


@cache
def say_once(message: str) -> None:
    """Warn; what is said at every checkpoint is said at the first."""
    warn(message)
