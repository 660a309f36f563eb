"""Errors a user can cause: one line with file, line or key and the remedy, and an exit code."""

import difflib
import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

INTERNAL_ERROR = 70
"""The exit code of a defect."""


INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class UserError(ValueError):
    """Something outside the program is wrong. `exit_code` follows the table in docs/training.md."""

    exit_code = INTERNAL_ERROR


class ConfigError(UserError):
    """A configuration file or an argument is wrong. Several messages may be joined by newlines."""

    exit_code = 2


class DataError(UserError):
    """Text, shards, a tokenizer or a checkpoint cannot be read as what they should be."""

    exit_code = 65


class DamagedError(DataError):
    """A file of ours is not what was written: it is made again, or an older one is taken."""


class OutputError(UserError):
    """Something cannot be written: the disk is full, or the folder is read-only."""

    exit_code = 73


class RetryError(UserError):
    """It may work later or smaller: the folder is locked, or the device is out of memory."""

    exit_code = 75


class OtherRankError(UserError):
    """Another rank has failed, and says why; this one only ends, with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


NO_ROOM = "make room, or choose another folder"
NO_RIGHTS = "mend its rights, or choose another folder"
GONE = "put it back, if it was moved or deleted meanwhile"
FAILS = "the disk, or the network behind it, fails: look to it"
TOO_MANY = "run less beside it, or raise the limit (ulimit -n)"
NO_MEMORY = "take smaller sizes, or run less beside it"

MACHINE: Mapping[int, tuple[type[UserError], str]] = {
    errno.ENOSPC: (OutputError, NO_ROOM),
    errno.EDQUOT: (OutputError, NO_ROOM),
    errno.EFBIG: (OutputError, NO_ROOM),
    errno.EROFS: (OutputError, NO_RIGHTS),
    errno.EACCES: (OutputError, NO_RIGHTS),
    errno.EPERM: (OutputError, NO_RIGHTS),
    errno.ENOENT: (OutputError, GONE),
    errno.ENOTDIR: (OutputError, GONE),
    errno.EISDIR: (OutputError, "name a file"),
    errno.ENAMETOOLONG: (OutputError, "choose a shorter name"),
    errno.ELOOP: (OutputError, "mend the links"),
    errno.EIO: (RetryError, FAILS),
    errno.ESTALE: (RetryError, FAILS),
    errno.ENODEV: (RetryError, FAILS),
    errno.ENXIO: (RetryError, FAILS),
    errno.ETIMEDOUT: (RetryError, FAILS),
    errno.ENOTCONN: (RetryError, FAILS),
    errno.ECONNRESET: (RetryError, FAILS),
    errno.EPIPE: (RetryError, "what reads the other end has ended"),
    errno.EMFILE: (RetryError, TOO_MANY),
    errno.ENFILE: (RetryError, TOO_MANY),
    errno.EAGAIN: (RetryError, "run less beside it, or raise the limit (ulimit -u)"),
    errno.ENOMEM: (RetryError, NO_MEMORY),
}
"""What a person or the machine does to a process, by errno: the exit code, and what helps."""

OUT_OF_MEMORY = (
    "out of memory",  # CUDA's and MPS's
    "can't allocate memory",  # torch's, of the host
    "not enough memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Storage size calculation overflowed",
    "Maximum allowed dimension exceeded",  # numpy's
    "array is too big",
)
"""Signs in the messages of errors that have no class of their own."""


def explained(error: BaseException, place: Path | str | None = None) -> UserError | None:
    """The line and the exit code of what a person or the machine has caused; None: a defect.

    Args:
        error: whatever was raised.
        place: what it was about, where the error itself does not say.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and (found := MACHINE.get(error.errno or 0)):
        kind, remedy = found
        name = error.filename if isinstance(error.filename, str | bytes | Path) else place
        verb = "cannot be written: " if remedy in (NO_ROOM, NO_RIGHTS) else ""
        return kind(f"{_shown(name)}{verb}{error.strerror}; {remedy}")
    if is_out_of_memory(error):
        return RetryError(f"{_shown(place)}out of memory ({first_line(error)}); {NO_MEMORY}")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return RetryError(f"{_shown(place)}{error}; {MACHINE[errno.EAGAIN][1]}")
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether host or device have too little memory for what was asked."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True  # the latter is torch's, which nothing here imports
    says_so = any(sign in str(error) for sign in OUT_OF_MEMORY)
    return isinstance(error, RuntimeError | ValueError) and says_so


def first_line(error: BaseException) -> str:
    """What an error of a library says first; its class, if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _shown(place: Path | str | bytes | None) -> str:
    """The start of a line about a place, if it is known."""
    if isinstance(place, bytes):
        place = place.decode(errors="replace")
    return "" if place is None else f"{place}: "


@contextmanager
def writing(place: Path, remedy: str) -> Iterator[None]:
    """Turns a full disk or a read-only folder into one line.

    Raises:
        OutputError: what is done inside has raised an OSError.
        RetryError: likewise, and it is nothing that helps at this place.
    """
    try:
        yield
    except OSError as error:
        known = explained(error, place)
        if isinstance(known, RetryError):
            raise known from error
        raise OutputError(
            f"{place}: cannot be written: {error.strerror or error}; {remedy}"
        ) from error


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The known name that is nearest to a wrong one, as in " (did you mean peak_lr?)".

    Args:
        name: the wrong one.
        known: the right ones.
        otherwise: what to say in the parentheses if none is near; without it, nothing is said.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else otherwise
    return f" ({hint})" if hint else ""
