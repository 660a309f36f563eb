"""Errors a user can cause: one line with file, line or key and the remedy, and an exit code."""

import difflib
from collections.abc import Iterable, Iterator
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


@contextmanager
def writing(place: Path, remedy: str) -> Iterator[None]:
    """Turns a full disk or a read-only folder into one line.

    Raises:
        OutputError: what is done inside has raised an OSError.
    """
    try:
        yield
    except OSError as error:
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
