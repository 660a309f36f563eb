"""JSON files read strictly: UTF-8, no duplicate keys, no NaN; errors name file and line."""

import json
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.path_kind import why_not


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object strictly: UTF-8, no duplicate keys, no NaN.

    Raises:
        ConfigError: naming the file and, where there is one, the line.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{path}: duplicate key {twice[0]!r}: keep one of them")
        return dict(pairs)

    def no_constants(constant: str) -> float:
        raise ConfigError(f"{path}: {constant} is not a number that JSON knows")

    if why := why_not(path, "file"):
        raise ConfigError(f"{path}: {why}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        value = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constants)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must hold one JSON object")
    return value
