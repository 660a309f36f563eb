"""Files of text, plain or compressed: their lines, and files that are one document.

Input is not trusted. What is no UTF-8 and what is too long is told apart line by line; what makes
the rest of a file unreadable (a truncated archive, another encoding) is an error that names the
place.
"""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kl3m_embeddings.data.readers.records import (
    BYTES_PER_MB,
    INVALID_UTF8,
    TOO_LONG,
    Document,
    ReadOptions,
    Skipped,
    record_of,
)
from kl3m_embeddings.errors import DataError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF16 = "UTF-16, not UTF-8"


class _EncodingError(ValueError):
    """A file of another encoding; the message says which, and what to do."""


class _CountedFile(io.FileIO):
    """A file that tells how many bytes were read from it."""

    def __init__(self, path: str, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        num_bytes = super().readinto(buffer)
        self._on_bytes(num_bytes)
        return num_bytes


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
        yield Skipped(name, 1, UTF16 if content.startswith(UTF16_MARKS) else INVALID_UTF8)
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
    except _EncodingError as error:
        raise DataError(f"{location}: {error}") from error


def bounded_lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """The lines without their ends; None for one that is too long, of which nothing is kept."""
    line = _first_line(stream, max_bytes)
    while line:
        content = line.rstrip(b"\r\n")
        yield content if len(content) <= max_bytes else None
        while line and not line.endswith(b"\n"):  # what is left of a line that is too long
            line = stream.readline(BYTES_PER_MB)
        line = stream.readline(max_bytes + 2)


def _first_line(stream: BinaryIO, max_bytes: int) -> bytes:
    """The first line and its end, without a mark of UTF-8 before it.

    A mark of UTF-16 is an error, and so is its first letter, which has a byte of zero: read as
    UTF-8, every row of such a file would be skipped, or its header be unknown.
    """
    line = stream.readline(max_bytes + 2)
    if line.startswith(UTF16_MARKS) or b"\0" in line[:2]:
        raise _EncodingError(f"is {UTF16}: save it as UTF-8, as iconv -f UTF-16 -t UTF-8 does")
    return line.removeprefix(BYTE_ORDER_MARK)


def csv_lines(stream: BinaryIO, max_bytes: int) -> Iterator[str]:
    """The lines as text, their ends kept; what is no UTF-8 becomes lone surrogates."""
    line = _first_line(stream, max_bytes)
    while line:
        if len(line) > max_bytes and not line.endswith(b"\n"):
            raise csv.Error(f"a line of more than {max_bytes // BYTES_PER_MB} MB")
        yield line.decode(errors="surrogateescape")
        line = stream.readline(max_bytes + 2)
