"""Rows of JSONL, CSV and TSV files as values by key, plain or compressed.

Input is not trusted (see `text.py`). A row that cannot be read comes as the reason why; what
makes the rest of a file unreadable is an error that names the place. CSV is quoted and has a
header; TSV has a header and no quotes; `.gz` and `.zst` may follow. Cells are text.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kl3m_embeddings.data.readers.records import INVALID_UTF8, TOO_LONG, ReadOptions
from kl3m_embeddings.data.readers.text import (
    COMPRESSIONS,
    bounded_lines,
    cells_by_column,
    csv_lines,
    opened_bytes,
    parse_json,
)
from kl3m_embeddings.errors import DataError

RawRow = tuple[int, Mapping[str, object] | str]
"""Line, and the values by key or the reason why there are none."""

RowReader = Callable[[str, ReadOptions], Iterator[RawRow]]


def jsonl_rows(location: str, options: ReadOptions) -> Iterator[RawRow]:
    """JSON objects, one a line."""
    with opened_bytes(location, options) as stream:
        for line, content in enumerate(bounded_lines(stream, options.max_bytes), start=1):
            yield line, parse_json(content)


def csv_rows(location: str, options: ReadOptions) -> Iterator[RawRow]:
    """Comma-separated values, quoted where needed; a cell may hold line breaks."""
    csv.field_size_limit(options.max_bytes)  # a global of csv's: there is no other way to raise it
    with opened_bytes(location, options) as stream:
        rows = csv.reader(csv_lines(stream, options.max_bytes), strict=True)
        line = 1
        try:
            header = checked_header(next(rows, []), location)
            line = rows.line_num + 1
            for cells in rows:
                yield line, cells_by_column(header, cells)
                line = rows.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{location}:{line}: not CSV: {error}; is a quote in this row never closed?"
            ) from error


def tsv_rows(location: str, options: ReadOptions) -> Iterator[RawRow]:
    """Tab-separated values, one row a line; a quote is a character like any other."""
    header: list[str] = []
    with opened_bytes(location, options) as stream:
        for line, content in enumerate(bounded_lines(stream, options.max_bytes), start=1):
            try:
                cells = None if content is None else content.decode().split("\t")
            except UnicodeDecodeError:
                yield line, INVALID_UTF8
                continue
            if line == 1:
                header = checked_header(cells or [], location)
            else:
                yield line, TOO_LONG if cells is None else cells_by_column(header, cells)


TEXT_ROW_READERS: dict[str, RowReader] = {".jsonl": jsonl_rows, ".csv": csv_rows, ".tsv": tsv_rows}


def bare_suffix(path: Path) -> str:
    """What a file is, whether it is compressed or not: `.csv` of `a.csv` and of `a.csv.gz`."""
    is_compressed = path.suffix.lower() in COMPRESSIONS
    return (path.with_suffix("") if is_compressed else path).suffix.lower()


def checked_header(names: list[str], location: str) -> list[str]:
    """The column names themselves, if each is there once."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{location}: more than one column {twice[0]!r}; keep one of them")
    return names
