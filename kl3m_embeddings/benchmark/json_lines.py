"""Small files of JSON objects, one a line, that are read and written as a whole."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import DataError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file; none if there is no file.

    Raises:
        DataError: A line is no object.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not a row of this file: move the file away")
        rows.append(row)
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file; a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    lines = (json.dumps(row, allow_nan=False) + "\n" for row in rows)
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(path)
