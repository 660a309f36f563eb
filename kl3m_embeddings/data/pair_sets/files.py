"""Files of pairs: JSONL, CSV, TSV and parquet, read row by row as `PairRow`.

Input is as little trusted as that of documents (see `readers/text.py`): a faulty row is skipped
with its reason and its line. A file without a row of a known format, or with rows of two formats,
is an error. CSV is quoted and has a header; TSV has a header and no quotes; `.gz` and `.zst` may
follow.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kl3m_embeddings.data.pair_sets.formats import (
    FORMATS,
    KNOWN_KEYS,
    NO_FORMAT,
    NUMBER_KEYS,
    QUERY_KEYS,
    TEXTS_KEYS,
    PairFormat,
    PairRow,
    UnusableRowError,
    base_key,
    check_keys,
    pair_row,
    recognise,
)
from kl3m_embeddings.data.readers.documents import expand_path
from kl3m_embeddings.data.readers.records import ReadOptions, Skipped, counted
from kl3m_embeddings.data.readers.rows import (
    LIST_IN_CELL,
    RawRow,
    RowReader,
    bare_suffix,
    csv_rows,
    is_list_literal,
    jsonl_rows,
    number_of,
    require_distinct,
    tsv_rows,
)
from kl3m_embeddings.data.readers.tables import ROWS_PER_BATCH, column_values, opened_parquet
from kl3m_embeddings.errors import DataError
from kl3m_embeddings.files.path_kind import readable_name

MAX_KEY_CHARS = 40  # without a header, a file's first row is taken for one


class PairFile(NamedTuple):
    """A file of pairs; `name` is what messages call it."""

    name: str
    location: str
    read: RowReader
    num_bytes: int
    modified_ns: int


def list_pair_files(paths: str | Path | Sequence[str | Path]) -> list[PairFile]:
    """The files that paths, folders and globs stand for, in a fixed order.

    Raises:
        DataError: there is no such file, or it is of no known type.
    """
    many = [paths] if isinstance(paths, str | Path) else paths
    return [
        _pair_file(file, root)
        for path in many
        for file, root in expand_path(
            Path(path), lambda file: bool(_reader_of(file)), _known_types()
        )
    ]


@dataclass
class PairReader:
    """The rows of a file; what was recognised and left out is known once they are read.

    Attributes:
        pair_format: recognised at the first row that has one.
        ignored_keys: found in rows, and not read.
        filtered: number of texts left out of their rows, by reason.
    """

    file: PairFile
    options: ReadOptions
    pair_format: PairFormat | None = None
    ignored_keys: set[str] = field(default_factory=set)
    filtered: Counter[str] = field(default_factory=Counter)
    _checked_keys: set[tuple[str, ...]] = field(default_factory=set)

    def rows(self) -> Iterator[PairRow | Skipped]:
        """The file's rows.

        Raises:
            DataError: no row is of a known format, or one is of another than those before.
        """
        skipped: Counter[str] = Counter()
        keys: tuple[str, ...] = ()
        for line, values in self.file.read(self.file.location, self.options, 0):
            try:
                if isinstance(values, str):
                    raise UnusableRowError(values)
                keys = keys or tuple(values)
                pair_format = self._format_of(tuple(values), line)
                row = pair_row(pair_format, values, line, self.options, self.filtered)
            except UnusableRowError as error:
                skipped[str(error)] += 1
                yield Skipped(self.file.name, line, str(error))
            else:
                yield row
        if self.pair_format is None:
            if not skipped:
                raise DataError(f"{self.file.location}: there are no rows in it; leave it out")
            found = f"; the first keys are {_named(keys)}" if keys else ""
            raise DataError(
                f"{self.file.location}: no row is of a known format "
                f"(skipped: {counted(skipped)}{found}); {_known_formats()}"
            )

    def _format_of(self, keys: tuple[str, ...], line: int) -> PairFormat:
        """The file's format, once it is known that these keys are in it."""
        if self.pair_format is None:
            self.pair_format = recognise(keys)
        if self.pair_format is None:
            if QUERY_KEYS.isdisjoint(keys):
                raise DataError(
                    f"{self.file.location}:{line}: no known format has the keys {_named(keys)}; "
                    f"{_known_formats()}"
                )
            raise UnusableRowError(NO_FORMAT)
        if keys not in self._checked_keys:
            place = f"{self.file.location}:{line}"
            self.ignored_keys |= check_keys(self.pair_format, keys, place)
            self._checked_keys.add(keys)
        return self.pair_format


def _named(keys: Iterable[str]) -> str:
    return ", ".join(repr(key[:MAX_KEY_CHARS]) for key in keys) or "none"


def _known_formats() -> str:
    return "known are " + ", ".join(one.name for one in FORMATS)


def _with_values(read: RowReader) -> RowReader:
    """`read`, whose cells become numbers where a format has numbers, and hold one text each."""

    def rows(location: str, options: ReadOptions, first_row: int = 0) -> Iterator[RawRow]:
        for line, values in read(location, options, first_row):
            yield line, values if isinstance(values, str) else _values(values)

    return rows


def _values(cells: Mapping[str, object]) -> Mapping[str, object] | str:
    if any(base_key(name) in TEXTS_KEYS and is_list_literal(cell) for name, cell in cells.items()):
        return LIST_IN_CELL
    return {
        name: _number_if_one(value) if name in NUMBER_KEYS and isinstance(value, str) else value
        for name, value in cells.items()
    }


def _parquet_rows(location: str, options: ReadOptions, first_row: int = 0) -> Iterator[RawRow]:
    """Rows of a parquet file, counted from 1; columns that no format knows are not read."""
    row = 0
    with opened_parquet(location) as file:
        names = file.schema_arrow.names
        require_distinct(names, location)
        ignored = dict.fromkeys(name for name in names if base_key(name) not in KNOWN_KEYS)
        columns = [name for name in names if name not in ignored]
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=columns):
            cells = {name: column_values(batch[name]) for name in columns}
            for index in range(batch.num_rows):
                row += 1
                if row > first_row:
                    yield row, {name: cells[name][index] for name in columns} | ignored
    options.on_bytes(Path(location).stat().st_size)


ROW_READERS: dict[str, RowReader] = {
    ".jsonl": jsonl_rows,
    ".csv": _with_values(csv_rows),
    ".tsv": _with_values(tsv_rows),
    ".parquet": _parquet_rows,
}


def _number_if_one(cell: str) -> float | str | None:
    """What a cell says, where a number is expected; None if it is empty."""
    number = number_of(cell)
    return number if number is not None else cell or None


def _pair_file(path: Path, root: Path) -> PairFile:
    reader = _reader_of(path)
    if reader is None:
        raise DataError(f"{path}: not a known type ({_known_types()})")
    status = path.stat()
    name = readable_name(path.relative_to(root))
    return PairFile(name, str(path), reader, status.st_size, status.st_mtime_ns)


def _reader_of(path: Path) -> RowReader | None:
    """The reader for a file of this name; hidden files have none."""
    if path.name.startswith("."):
        return None
    suffix = bare_suffix(path)
    is_compressed = suffix != path.suffix.lower()
    return None if is_compressed and suffix == ".parquet" else ROW_READERS.get(suffix)


def _known_types() -> str:
    return f"{', '.join(ROW_READERS)}; text also as .gz, .zst"
