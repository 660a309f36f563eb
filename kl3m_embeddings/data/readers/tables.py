"""Readers of tables: parquet, Arrow IPC (streams and files), and datasets of the hub.

Only the two columns asked for are read, a few hundred rows at a time. pyarrow is imported where it
is used: training from built shards or from JSON lines does without.
"""

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from kl3m_embeddings.data.readers.records import (
    BYTES_PER_MB,
    Document,
    ReadOptions,
    Skipped,
    record_of,
    require_column,
)
from kl3m_embeddings.data.readers.rows import require_distinct
from kl3m_embeddings.errors import ConfigError, DataError, first_line

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

ROWS_PER_BATCH = 256
HUB_ADDRESS = re.compile(r"hf://(?P<path>[^/:]+/[^/:]+)(/(?P<name>[^:]+))?(:(?P<split>.+))?")


def read_parquet(
    location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """Rows of a parquet file; row groups before the first row are not read."""
    with opened_parquet(location) as file:
        columns = _columns(file.schema_arrow.names, location, options)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [group for group, end in enumerate(ends) if end > first_row]
        skipped = sum(sizes) - sum(sizes[group] for group in groups)
        batches = file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=columns)
        yield from _records(batches, name, options, skipped, first_row)
    options.on_bytes(Path(location).stat().st_size)


def read_arrow(
    location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """Rows of an Arrow IPC file or stream, memory-mapped."""
    import pyarrow

    with readable_table(location), _mapped(location) as file:
        try:
            table = pyarrow.ipc.open_file(file)
            batches = map(table.get_batch, range(table.num_record_batches))
        except pyarrow.ArrowInvalid:  # a stream has no footer
            file.seek(0)
            table = batches = pyarrow.ipc.open_stream(file)
        columns = _columns(table.schema.names, location, options)
        selected = (batch.select(columns) for batch in batches)
        yield from _records(selected, name, options, 0, first_row)
    options.on_bytes(Path(location).stat().st_size)


def read_hub(
    location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """Rows of `hf://org/name[/config][:split]`, streamed; the split is `train` unless named."""
    address = HUB_ADDRESS.fullmatch(location)
    if address is None:
        raise ConfigError(f"{location}: expected hf://org/name[/config][:split]")
    import datasets

    try:
        rows = datasets.load_dataset(
            address["path"], address["name"], split=address["split"] or "train", streaming=True
        )
        for row, values in enumerate(rows.skip(first_row), start=first_row):
            if row == first_row:
                require_column(options, list(values), location)
            yield record_of(values, name, row + 1, row + 1, options)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{location}: the hub does not give it ({first_line(error)}); "
            "is there a network, and is HF_HUB_OFFLINE unset?"
        ) from error


def _columns(names: list[str], location: str, options: ReadOptions) -> list[str]:
    """The columns to read: the text, the id where there is one, and what else is kept."""
    require_column(options, names, location)
    others = {options.id_column, *options.keep_columns}
    require_distinct([name for name in names if name in others], location)
    return [options.text_column, *sorted(others & {*names} - {options.text_column})]


def _records(
    batches: Iterable["pyarrow.RecordBatch"],
    name: str,
    options: ReadOptions,
    row: int,
    first_row: int,
) -> Iterator[Document | Skipped]:
    """The rows from `first_row` on of batches of which the first starts at `row`."""
    for batch in batches:
        for offset in range(0, batch.num_rows, ROWS_PER_BATCH):
            part = batch.slice(offset, ROWS_PER_BATCH)
            if row + part.num_rows > first_row:
                columns = {key: column_values(part[key]) for key in part.schema.names}
                for index in range(max(first_row - row, 0), part.num_rows):
                    values = {key: column[index] for key, column in columns.items()}
                    yield record_of(values, name, row + index + 1, row + index + 1, options)
            row += part.num_rows


def column_values(column: "pyarrow.Array") -> list[object]:
    """A column's values; text that is no UTF-8 gets lone surrogates, as elsewhere."""
    try:
        values: list[object] = column.to_pylist()
    except (ValueError, OverflowError):  # one of them is not what its type says: which?
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: "pyarrow.Scalar") -> object:
    """A value as Python's, or the scalar itself where Python has none such, as of a time in ns."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if hasattr(scalar, "as_buffer"):
            return scalar.as_buffer().to_pybytes().decode(errors="surrogateescape")
        if hasattr(scalar, "dictionary"):
            return _value(scalar.value)
        return list(map(_value, scalar.values)) if hasattr(scalar, "values") else scalar
    except (ValueError, OverflowError):
        return scalar


@contextmanager
def opened_parquet(location: str) -> Iterator["parquet.ParquetFile"]:
    """A parquet file; Python opens it, for pyarrow cannot open names that are no UTF-8."""
    from pyarrow import parquet

    with (
        readable_table(location),
        Path(location).open("rb") as file,
        parquet.ParquetFile(file, buffer_size=BYTES_PER_MB) as table,
    ):
        yield table


@contextmanager
def _mapped(location: str) -> Iterator["pyarrow.NativeFile"]:
    """A file mapped into memory; Python opens it, see `opened_parquet`."""
    import pyarrow

    with Path(location).open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise OSError("an empty file")
        yield pyarrow.BufferReader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


@contextmanager
def readable_table(location: str) -> Iterator[None]:
    """Turns what pyarrow raises into one line that names the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{location}: cannot be read: {first_line(error)}") from error
