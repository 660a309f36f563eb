"""Reads JSONL that another process may still be writing, by columns, never holding all its text.

1. The file is read in blocks of whole lines.
2. polars parses a block. That is the fast path, and all there is while every line is good.
3. A block with a bad line is halved until few lines are left around it, which are read one by
   one: the bad line is kept with its number and the reason, its neighbours are read as usual.
4. A last line without its newline that cannot be read is one being written: torn, not bad.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import polars as pl

from kl3m_embeddings.errors import ConfigError, DataError
from kl3m_embeddings.report.names import counted

BLOCK_BYTES = 16 * 2**20
MAX_LINE_BYTES = 16 * 2**20
LINE_BY_LINE_BYTES = 64 * 2**10
MAX_BAD_LINES = 100

# What a line becomes.
Row = TypeVar("Row")
# Field to polars type, in the order of the columns.
Schema = dict[str, Any]


@dataclass(frozen=True)
class BadLine:
    """A line that was left out: its number, from 1, and why."""

    number: int
    reason: str


@dataclass
class Lines:
    """How many lines were read, how many could not be used, and the first of those."""

    num_lines: int = 0
    num_bad: int = 0
    bad: list[BadLine] = field(default_factory=list)
    torn: bool = False

    def reject(self, reason: str) -> None:
        """Leave out the line read last."""
        self.num_bad += 1
        if len(self.bad) < MAX_BAD_LINES:
            self.bad.append(BadLine(self.num_lines, reason))

    def notes(self, file_name: str) -> list[str]:
        """What the reader of the report must know about the file."""
        notes = []
        if self.bad:
            shown = ", ".join(f"line {bad.number} ({bad.reason})" for bad in self.bad[:5])
            more = f" and {self.num_bad - 5:,} more" if self.num_bad > 5 else ""
            lines = counted(self.num_bad, "bad line")
            notes.append(f"{file_name}: {lines} left out: {shown}{more}")
        if self.torn:
            notes.append(f"{file_name}: last line incomplete, ignored (normal while training)")
        return notes


def read_columns(path: Path, schema: Schema) -> Iterator[tuple[pl.DataFrame, Lines]]:
    """Yield the rows of `path` block by block, each with the account of all lines so far.

    Rows hold the fields of `schema` (absent ones are null; an object in a `pl.String` field is its
    text) and `line`, the line's number from 1. A line without a usable `step` is bad.
    """
    lines = Lines()
    with open_to_read(path) as file:
        for block in blocks_of_lines(file):
            for frame in parse_block(block, lines, schema):
                yield frame, lines


def read_objects(path: Path) -> tuple[list[dict[str, Any]], Lines]:
    """All objects with a `step` of a small JSONL file, and the account of its lines."""
    return read_rows(path, partial(checked, schema={}))


def read_rows(path: Path, check: Callable[[object], Row]) -> tuple[list[Row], Lines]:
    """What `check` makes of each line of a small JSONL file, and the account of its lines.

    A line for which `check` raises a `DataError` is bad, for the reason that the error gives.
    """
    lines = Lines()
    rows: list[Row] = []
    with open_to_read(path) as file:
        for block in blocks_of_lines(file):
            rows += [row for _, row in parse_lines(block, lines, check)]
    return rows, lines


def open_to_read(path: Path) -> BinaryIO:
    """Open `path`, or say why that is not possible."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def blocks_of_lines(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, about BLOCK_BYTES at a time; only the last may lack its newline."""
    while block := file.read(BLOCK_BYTES):
        block += file.readline(MAX_LINE_BYTES)
        # A line beyond the limit is no line of a log: its rest is dropped, and parsing rejects it.
        while not block.endswith(b"\n") and (rest := file.readline(MAX_LINE_BYTES)):
            block += b"\n" if rest.endswith(b"\n") else b""
        yield block


def parse_block(block: bytes, lines: Lines, schema: Schema) -> Iterator[pl.DataFrame]:
    """Parse a block of lines by columns; lines around a bad one are parsed one by one."""
    num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    frame = parse_fast(block, schema)
    if frame is not None and len(frame) == num_lines and has_steps(frame):
        start = lines.num_lines + 1
        lines.num_lines += num_lines
        yield frame.with_columns(line=pl.int_range(start, start + num_lines, dtype=pl.UInt32))
        return
    middle = block.find(b"\n", len(block) // 2) + 1
    if len(block) <= LINE_BY_LINE_BYTES or middle in (0, len(block)):
        check = partial(checked, schema=schema)
        rows = [{"line": line, **row} for line, row in parse_lines(block, lines, check)]
        yield pl.DataFrame(rows, schema={**schema, "line": pl.UInt32})
    else:
        yield from parse_block(block[:middle], lines, schema)
        yield from parse_block(block[middle:], lines, schema)


def has_steps(frame: pl.DataFrame) -> bool:
    """Whether every row has a step that can be one."""
    return bool((frame["step"] >= 0).all(ignore_nulls=False))


def parse_fast(block: bytes, schema: Schema) -> pl.DataFrame | None:
    """The block by columns, or None when a line in it is not as `schema` says."""
    try:
        return pl.read_ndjson(block, schema=schema)
    except pl.exceptions.PolarsError:
        return None


def parse_lines(
    block: bytes, lines: Lines, check: Callable[[object], Row]
) -> list[tuple[int, Row]]:
    """The good lines of `block` with their numbers; the others are entered in `lines`."""
    rows = []
    for text in io.BytesIO(block):
        lines.num_lines += 1
        if not text.strip():
            continue
        try:
            row = json.loads(text, parse_constant=lambda _: None)
            rows.append((lines.num_lines, check(row)))
        except (RecursionError, OverflowError):
            lines.reject("nested too deeply, or a number too large")
        except ValueError as error:
            reason = str(error) if isinstance(error, DataError) else "not JSON"
            if text.endswith(b"\n") or reason != "not JSON":
                lines.reject(reason)
            else:
                lines.torn = True
    return rows


def checked(row: object, schema: Schema) -> dict[str, Any]:
    """The fields of `schema` in `row`, in their types; the row as it is where `schema` is empty."""
    if not isinstance(row, dict):
        raise DataError("not an object")
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**63:
        raise DataError("no usable step")
    if not schema:
        return row
    return {name: as_column(name, row.get(name), schema) for name in schema}


def as_column(name: str, value: object, schema: Schema) -> object:
    """`value` as polars would read it in the column `name`."""
    kind = schema[name]
    if value is None:
        return None
    if kind == pl.String:
        text = object_text(value) if isinstance(value, dict) else str(value)
        return text.encode(errors="replace").decode()  # a lone surrogate is no text to polars
    if kind == pl.Boolean and isinstance(value, bool):
        return value
    if kind != pl.Boolean and isinstance(value, int | float) and not isinstance(value, bool):
        return value if kind == pl.Int64 else float(value)
    raise DataError(f"{name} is not a {'truth value' if kind == pl.Boolean else 'number'}")


def object_text(value: dict[str, Any]) -> str:
    """The text that polars makes of an object in a column of strings (it does not escape names)."""
    return "{" + ", ".join(f'"{name}": {item}' for name, item in value.items()) + "}"
