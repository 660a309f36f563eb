"""JSON read strictly: UTF-8, no duplicate keys, no NaN, nothing too deep or too long to read.

What a user writes is read by `read_json`; an error names file and line. What we wrote ourselves is
read by `records.py`, which takes nothing for granted either: disks fill, and people edit.
"""

import json
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.path_kind import why_not


class JsonError(ValueError):
    """A text is no JSON that can be read; `line` is where, if that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON
    """The value of a JSON text.

    Raises:
        JsonError: it is none, or one that no two readers understand alike.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
    except JsonError:
        raise
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError:  # the standard library refuses to convert more than 4,300 digits
        raise JsonError("a number of too many digits") from None


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """Read a user's JSON file.

    Raises:
        ConfigError: naming the file and, where there is one, the line.
    """
    if why := why_not(path, "file"):
        raise ConfigError(f"{path}: {why}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return parse_json(text)
    except JsonError as error:
        place = path if error.line is None else f"{path}:{error.line}"
        raise ConfigError(f"{place}: {error}") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a user's JSON file that holds one object.

    Raises:
        ConfigError: naming the file and, where there is one, the line.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must hold one JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = min(name for name in names if names.count(name) > 1)
        raise JsonError(f"duplicate key {twice!r}: keep one of them")
    return values


def _no_constant(constant: str) -> float:
    raise JsonError(f"{constant} is not a number that JSON knows")
