"""Small files that are read and written as a whole, most of them JSON objects, one a line."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.records import check_record
from kl3m_embeddings.files.strict_json import JsonError, parse_json
from kl3m_embeddings.files.whole import utf8, write_whole

T = TypeVar("T")

REMEDY = "move the file away"


def read_lines(path: Path, remedy: str = REMEDY) -> list[dict[str, Any]]:
    """The objects of a file; none if there is no file.

    Raises:
        DamagedError: A line is no object; the `remedy` is told.
    """
    content = path.read_bytes() if path.exists() else b""
    if not content:
        return []
    rows = []
    for line_number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            row = parse_json(line)
        except JsonError:
            row = None
        if not isinstance(row, dict):
            raise DamagedError(f"{path}:{line_number}: not a row of this file: {remedy}")
        rows.append(row)
    return rows


def read_records(path: Path, kind: type[T], remedy: str = REMEDY) -> list[T]:
    """The rows of a file, each of this kind (see `records.py`); none if there is no file.

    Raises:
        DamagedError: A line is no such row; the `remedy` is told.
    """
    return [
        check_record(f"{path}:{number}: not a row of this file", row, kind, remedy)
        for number, row in enumerate(read_lines(path, remedy), start=1)
    ]


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
