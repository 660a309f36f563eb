"""Small files that are read and written as a whole, most of them JSON objects, one a line."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import DataError
from kl3m_embeddings.files.whole import utf8, write_whole


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file; none if there is no file.

    Raises:
        DataError: A line is no object.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if not text:
        return []
    rows = []
    # not splitlines: a text may hold what Unicode, but not JSON, ends a line with
    for line_number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{line_number}: not a row of this file: move the file away")
        rows.append(row)
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of objects."""
    write_whole(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def replace_lines(path: Path, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    """Add objects to a file; those there that have the same values of `keys` go."""

    def identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row.get(key) for key in keys)

    replaced = {identity(row) for row in rows}
    write_lines(path, [*(row for row in read_lines(path) if identity(row) not in replaced), *rows])


def json_line(row: Mapping[str, Any]) -> bytes:
    """The row as a line of JSON."""
    return utf8(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n")
