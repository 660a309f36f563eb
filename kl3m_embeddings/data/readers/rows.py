"""Rows of JSONL, CSV and TSV files as values by key, plain or compressed.

Input is not trusted. A row that cannot be read comes as the reason why, with its line: invalid
UTF-8, NUL, malformed JSON, NaN, duplicate keys, too many cells or too few. What makes the rest of a
file unreadable (a CSV quote that is never closed, a header that is none) is an error that names the
place. CSV is quoted and has a header; TSV has a header and no quotes; `.gz` and `.zst` may follow.
Cells are text.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kl3m_embeddings.data.readers.records import EMPTY, INVALID_UTF8, NUL, TOO_LONG, ReadOptions
from kl3m_embeddings.data.readers.text import (
    BYTE_ORDER_MARK,
    COMPRESSIONS,
    bounded_lines,
    csv_lines,
    opened_bytes,
)
from kl3m_embeddings.errors import DataError

RawRow = tuple[int, Mapping[str, object] | str]
"""Line, and the values by key or the reason why there are none."""

RowReader = Callable[[str, ReadOptions, int], Iterator[RawRow]]
"""(location, options, first row): the rows from the first row on, one item a row."""

NOT_JSON = "not JSON"
NOT_OBJECT = "not a JSON object"
JSON_ARRAY = "of a JSON array, not one object a line"
SEVERAL_VALUES = "more than one JSON value on the line"
NOT_NUMBER = "NaN or Infinity"
DUPLICATE_KEY = "duplicate key"
WRONG_NUMBER_OF_CELLS = "not as many cells as the header"
LIST_IN_CELL = "a list in a cell, which JSONL or parquet can hold"
HEADER_AGAIN = "the header again"

SEPARATORS = ",;\t|"
DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)

# Python quotes each text in its own way: ["it's", 'so'].
LIST_LITERAL = re.compile(r"\s*\[\s*(['\"].*['\"]\s*,?\s*)?\]\s*", re.DOTALL)


class _MalformedError(ValueError):
    """JSON that parsers take and we do not; the message is the reason."""


def jsonl_rows(location: str, options: ReadOptions, first_row: int = 0) -> Iterator[RawRow]:
    """JSON objects, one a line."""
    with opened_bytes(location, options) as stream:
        for line, content in enumerate(bounded_lines(stream, options.max_bytes), start=1):
            if line > first_row:
                yield line, parse_json(content)


def csv_rows(location: str, options: ReadOptions, first_row: int = 0) -> Iterator[RawRow]:
    """Comma-separated values, quoted where needed; a cell may hold line breaks."""
    csv.field_size_limit(options.max_bytes)  # a global of csv's: there is no other way to raise it
    with opened_bytes(location, options) as stream:
        rows = csv.reader(csv_lines(stream, options.max_bytes), strict=True)
        line = 1
        try:
            for row, cells in enumerate(rows, start=-1):
                if row < 0:
                    header = checked_header(cells, location)
                elif row >= first_row:
                    yield line, cells_by_column(header, cells)
                line = rows.line_num + 1
        except csv.Error as error:
            raise DataError(f"{location}:{line}: not CSV: {_csv_fault(error)}") from error


def tsv_rows(location: str, options: ReadOptions, first_row: int = 0) -> Iterator[RawRow]:
    """Tab-separated values, one row a line; a quote is a character like any other."""
    header: list[str] = []
    with opened_bytes(location, options) as stream:
        for line, content in enumerate(bounded_lines(stream, options.max_bytes), start=1):
            cells = _tab_separated(content)
            if line == 1:
                header = checked_header([] if isinstance(cells, str) else cells, location)
            elif line - 2 >= first_row:
                yield line, cells if isinstance(cells, str) else cells_by_column(header, cells)


TEXT_ROW_READERS: dict[str, RowReader] = {".jsonl": jsonl_rows, ".csv": csv_rows, ".tsv": tsv_rows}


def bare_suffix(path: Path) -> str:
    """What a file is, whether it is compressed or not: `.csv` of `a.csv` and of `a.csv.gz`."""
    is_compressed = path.suffix.lower() in COMPRESSIONS
    return (path.with_suffix("") if is_compressed else path).suffix.lower()


def checked_header(cells: Sequence[str], location: str) -> list[str]:
    """The columns' names, without white space around them; a column may have none.

    Raises:
        DataError: two columns have one name, or this is no row of names.
    """
    names = [cell.strip() for cell in cells]
    if not any(names):
        raise DataError(f"{location}:1: no header: name the columns in the first line")
    require_distinct(names, location)
    if any("\r" in name for name in names):
        raise DataError(
            f"{location}:1: lines end in bare carriage returns: write the file anew, "
            "with line feeds (tr '\\r' '\\n')"
        )
    if len(names) == 1 and (found := [one for one in SEPARATORS if one in names[0]]):
        raise DataError(
            f"{location}:1: one column, {names[0][:80]!r}: are cells parted by {found[0]!r}? "
            "Part them by commas in a .csv, by tabs in a .tsv"
        )
    return names


def require_distinct(names: Sequence[str], location: str) -> None:
    """Check that no two columns have one name; a column without a name is nothing to be read."""
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"{location}: more than one column {twice[0]!r}; keep one of them")


def cells_by_column(header: Sequence[str], cells: Sequence[str]) -> Mapping[str, object] | str:
    """A row's cells by column, or the reason why they cannot be told apart.

    Most often a comma in a text that is not quoted: what stands behind it would be lost.
    """
    if len(cells) != len(header):
        return EMPTY if "".join(cells) == "" else WRONG_NUMBER_OF_CELLS
    if all(name == cell.lstrip("\ufeff").strip() for name, cell in zip(header, cells, strict=True)):
        return HEADER_AGAIN  # of files that were joined
    return dict(zip(header, cells, strict=True))


def parse_json(line: bytes | None) -> dict[str, object] | str:
    """The object on a line, or the reason why there is none."""
    if line is None:
        return TOO_LONG
    content = line.removeprefix(BYTE_ORDER_MARK).strip()
    if not content:
        return EMPTY
    if b"\0" in content:
        return NUL
    try:
        values = json.loads(
            content.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        return INVALID_UTF8
    except _MalformedError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return _json_fault(content, error)
    if isinstance(values, dict):
        return values
    is_array = isinstance(values, list) and any(isinstance(one, dict) for one in values)
    return JSON_ARRAY if is_array else NOT_OBJECT


def number_of(text: str) -> float | None:
    """The number that a text is, in plain decimal digits: no `1_000`, `0,5`, `nan` or `inf`."""
    return float(text) if DECIMAL.fullmatch(text) else None


def is_list_literal(cell: object) -> bool:
    """Whether a cell is a list of texts as Python or JSON writes it, which nobody means as text."""
    return isinstance(cell, str) and LIST_LITERAL.fullmatch(cell) is not None


def _tab_separated(line: bytes | None) -> list[str] | str:
    """The cells of a line, or the reason why there are none."""
    if line is None:
        return TOO_LONG
    try:
        return line.decode().split("\t")
    except UnicodeDecodeError:
        return INVALID_UTF8


def _json_fault(content: bytes, error: ValueError | RecursionError) -> str:
    """Why a line is not JSON, where that can be seen: an array over many lines, two rows on one."""
    if content in (b"[", b"]") or content.endswith(b"},"):
        return JSON_ARRAY
    is_object = content.startswith(b"{")
    if is_object and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return SEVERAL_VALUES
    return NOT_JSON


def _csv_fault(error: csv.Error) -> str:
    """What Python's csv says, and what it may come from."""
    if "new-line character" in str(error):
        return (
            "a carriage return stands alone outside of quotes: quote the cell, or let lines end "
            "in line feeds (tr '\\r' '\\n')"
        )
    return f"{error}; is a quote in this row never closed?"


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _MalformedError(DUPLICATE_KEY)
    return values


def _no_constant(_: str) -> float:
    raise _MalformedError(NOT_NUMBER)
