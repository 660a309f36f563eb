"""Readers of text files, plain or compressed: JSONL, CSV, and files that are one document.

Input is not trusted. A row that is no clean text is skipped with its reason and its line, and
reading goes on: invalid UTF-8 (lone surrogates included), NUL, malformed JSON, NaN, duplicate keys,
lines that are too long. What makes the rest of a file unreadable (a truncated archive, a CSV quote
that is never closed) is an error that names the place.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kl3m_embeddings.data.readers.records import (
    BYTES_PER_MB,
    EMPTY,
    INVALID_UTF8,
    NUL,
    TOO_LONG,
    Document,
    ReadOptions,
    Skipped,
    record_of,
    require_column,
)
from kl3m_embeddings.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

NOT_JSON = "not JSON"
NOT_OBJECT = "not a JSON object"
NOT_NUMBER = "NaN or Infinity"
DUPLICATE_KEY = "duplicate key"
WRONG_NUMBER_OF_CELLS = "not as many cells as the header"


class _CountedFile(io.FileIO):
    """A file that tells how many bytes were read from it."""

    def __init__(self, path: str, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        num_bytes = super().readinto(buffer)
        self._on_bytes(num_bytes)
        return num_bytes


class _MalformedError(ValueError):
    """JSON that parsers take and we do not; the message is the reason."""


def read_jsonl(
    location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """JSON objects, one a line."""
    with opened_bytes(location, options) as stream:
        for row, line in enumerate(bounded_lines(stream, options.max_bytes)):
            if row < first_row:
                continue
            values = parse_json(line)
            if isinstance(values, str):
                yield Skipped(name, row + 1, values)
                continue
            if row == 0:
                require_column(options, list(values), location)
            yield record_of(values, name, row + 1, row + 1, options)


def read_csv(
    location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """Comma-separated values with a header; a cell may be long and hold line breaks."""
    csv.field_size_limit(options.max_bytes)  # a global of csv's: there is no other way to raise it
    with opened_bytes(location, options) as stream:
        rows = csv.reader(csv_lines(stream, options.max_bytes), strict=True)
        try:
            header = next(rows, [])
            require_column(options, header, location)
            line = rows.line_num + 1
            for row, cells in enumerate(rows):
                if row >= first_row:
                    values = cells_by_column(header, cells)
                    yield (
                        Skipped(name, line, values)
                        if isinstance(values, str)
                        else record_of(values, name, row + 1, line, options)
                    )
                line = rows.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{location}:{line}: not CSV: {error}; is a quote in this row never closed?"
            ) from error


def cells_by_column(header: Sequence[str], cells: Sequence[str]) -> Mapping[str, object] | str:
    """A row's cells by column, or the reason why they cannot be told apart.

    Most often a comma in a text that is not quoted: what stands behind it would be lost.
    """
    if len(cells) != len(header):
        return EMPTY if "".join(cells) == "" else WRONG_NUMBER_OF_CELLS
    return dict(zip(header, cells, strict=True))


def read_text(
    location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """A file that is one document; its id is its name."""
    if first_row > 0:
        return
    with opened_bytes(location, options) as stream:
        content = stream.read(options.max_bytes + 1)
    if len(content) > options.max_bytes:
        yield Skipped(name, 1, TOO_LONG)
        return
    try:
        text = content.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        yield Skipped(name, 1, INVALID_UTF8)
        return
    values = {options.id_column: name, options.text_column: text}
    yield record_of(values, name, 1, 1, options)


@contextmanager
def opened_bytes(location: str, options: ReadOptions) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed; a file that breaks off is an error, not a short file."""
    compression = COMPRESSIONS.get(Path(location).suffix.lower())
    try:
        with io.BufferedReader(_CountedFile(location, options.on_bytes), BYTES_PER_MB) as file:
            if compression is None:
                yield file
            else:
                # of the readers at hand only pyarrow's sees that a zstd file is truncated
                import pyarrow

                source = pyarrow.PythonFile(file, mode="r")
                yield io.BufferedReader(
                    pyarrow.CompressedInputStream(source, compression), BYTES_PER_MB
                )
    except OSError as error:
        raise DataError(f"{location}: cannot be read: {error}") from error


def bounded_lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """The lines without their ends; None for one that is too long, of which nothing is kept."""
    line = stream.readline(max_bytes + 2).removeprefix(BYTE_ORDER_MARK)
    while line:
        content = line.rstrip(b"\r\n")
        yield content if len(content) <= max_bytes else None
        while line and not line.endswith(b"\n"):  # what is left of a line that is too long
            line = stream.readline(BYTES_PER_MB)
        line = stream.readline(max_bytes + 2)


def csv_lines(stream: BinaryIO, max_bytes: int) -> Iterator[str]:
    """The lines as text, their ends kept; what is no UTF-8 becomes lone surrogates."""
    line = stream.readline(max_bytes + 2).removeprefix(BYTE_ORDER_MARK)
    while line:
        if len(line) > max_bytes and not line.endswith(b"\n"):
            raise csv.Error(f"a line of more than {max_bytes // BYTES_PER_MB} MB")
        yield line.decode(errors="surrogateescape")
        line = stream.readline(max_bytes + 2)


def parse_json(line: bytes | None) -> dict[str, object] | str:
    """The object on a line, or the reason why there is none."""
    if line is None:
        return TOO_LONG
    if b"\0" in line:
        return NUL
    try:
        values = json.loads(
            line.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        return INVALID_UTF8
    except _MalformedError as error:
        return str(error)
    except (ValueError, RecursionError):
        return NOT_JSON
    return values if isinstance(values, dict) else NOT_OBJECT


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _MalformedError(DUPLICATE_KEY)
    return values


def _no_constant(_: str) -> float:
    raise _MalformedError(NOT_NUMBER)
