"""Documents out of files: many kinds of sources, one stream of `Document(id, text)`.

1. `list_sources` turns a path into files: a file, a folder (searched recursively, in sorted order),
   a glob, or `hf://org/name[/config][:split]` for a dataset of the hub (streamed, never stored).
2. `read_records` streams them row by row. Every row is a `Document` or, where it cannot be one, a
   `Skipped` that says why and where; nothing is dropped in silence. It can start at any row, which
   is how an interrupted build goes on.
3. `iter_documents` is the two together, for whoever wants the documents alone.

Memory is bounded by the longest row allowed, `max_line_mb`, whatever the sizes of the files.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kl3m_embeddings.data.readers.records import (
    Document,
    ReadOptions,
    Skipped,
    record_of,
    require_column,
)
from kl3m_embeddings.data.readers.rows import RowReader, bare_suffix, csv_rows, jsonl_rows
from kl3m_embeddings.data.readers.tables import read_arrow, read_hub, read_parquet
from kl3m_embeddings.data.readers.text import read_text
from kl3m_embeddings.errors import DataError
from kl3m_embeddings.files.path_kind import readable_name, walk, why_not

Reader = Callable[[str, str, ReadOptions, int], Iterator[Document | Skipped]]
"""(location, name, options, first row): the rows from the first row on, one item a row."""


def read_documents(
    read: RowReader, location: str, name: str, options: ReadOptions, first_row: int
) -> Iterator[Document | Skipped]:
    """The documents of a reader of rows; the first row that can be read shows the columns."""
    is_checked = first_row > 0
    rows = read(location, options, first_row)
    for row, (line, values) in enumerate(rows, start=first_row + 1):
        if isinstance(values, str):
            yield Skipped(name, line, values)
            continue
        if not is_checked:
            require_column(options, list(values), location)
            is_checked = True
        yield record_of(values, name, row, line, options)


TEXT_READERS: dict[str, Reader] = {
    ".jsonl": partial(read_documents, jsonl_rows),
    ".csv": partial(read_documents, csv_rows),
    ".txt": read_text,
    ".md": read_text,
}
TABLE_READERS: dict[str, Reader] = {".parquet": read_parquet, ".arrow": read_arrow}

HUB_PREFIX = "hf://"
WILDCARD = re.compile(r"[*?\[]")


class Source(NamedTuple):
    """A file to read documents from.

    Attributes:
        name: what ids and messages call it: its path below the folder or glob that was asked for.
        location: its path, or its `hf://` address.
        num_bytes: its size; 0 for a dataset of the hub.
        modified_ns: when it last changed; 0 for a dataset of the hub.
    """

    name: str
    location: str
    reader: Reader
    num_bytes: int
    modified_ns: int


class Record(NamedTuple):
    """One row of the sources, `(source, row)` counted from 0 over all of them."""

    source: int
    row: int
    item: Document | Skipped


def list_sources(paths: str | Path | Sequence[str | Path]) -> list[Source]:
    """The files that paths, folders, globs and hub addresses stand for, in a fixed order.

    Raises:
        DataError: there is no such file, or none that can be read.
    """
    many = [paths] if isinstance(paths, str | Path) else paths
    return [source for path in many for source in _expand(str(path))]


def read_records(
    sources: Sequence[Source], options: ReadOptions, *, start: tuple[int, int] = (0, 0)
) -> Iterator[Record]:
    """Stream the rows of the sources, from row `start[1]` of source `start[0]` on."""
    for index in range(start[0], len(sources)):
        source = sources[index]
        first_row = start[1] if index == start[0] else 0
        items = source.reader(source.location, source.name, options, first_row)
        for row, item in enumerate(items, start=first_row):
            yield Record(index, row, item)


def iter_documents(
    paths: str | Path | Sequence[str | Path],
    options: ReadOptions | None = None,
    *,
    on_skip: Callable[[Skipped], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of the sources; what is skipped is told to `on_skip`."""
    for record in read_records(list_sources(paths), options or ReadOptions()):
        if isinstance(record.item, Document):
            yield record.item
        elif on_skip is not None:
            on_skip(record.item)


def expand_path(
    path: Path, is_known: Callable[[Path], bool], known_types: str
) -> list[tuple[Path, Path]]:
    """The files that a file, folder or glob stands for, each with the folder its name starts from.

    Raises:
        DataError: there is no such file, or none that `is_known`.
    """
    files: Iterable[Path]
    if why_not(path, "folder") is None:
        root, files = path, walk(path)
    elif WILDCARD.search(str(path)) and not path.exists():
        first_wildcard = next(i for i, part in enumerate(path.parts) if WILDCARD.search(part))
        root = Path(*path.parts[:first_wildcard])
        files = root.glob(str(Path(*path.parts[first_wildcard:])))
        files = (file for file in files if not file.is_dir())
    else:
        require_file(path)
        return [(path, path.parent)]
    try:
        known = sorted(file for file in files if is_known(file))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not known:
        raise DataError(f"{path}: no file of a known type there ({known_types})")
    for file in known:  # a link to nothing, or a pipe, is not left out in silence
        require_file(file)
    return [(file, root) for file in known]


def require_file(path: Path) -> None:
    """Check that a path names a file that may be read.

    Raises:
        DataError: saying what it is.
    """
    if why := why_not(path, "file"):
        raise DataError(f"{path}: {why}")


def _expand(path: str) -> list[Source]:
    """The sources that one argument stands for."""
    if path.startswith(HUB_PREFIX):
        return [Source(path, path, read_hub, 0, 0)]
    found = expand_path(Path(path), lambda file: bool(_reader_of(file.name)), _known_types())
    return [_source(file, root) for file, root in found]


def _source(file: Path, root: Path) -> Source:
    reader = _reader_of(file.name)
    if reader is None:
        raise DataError(f"{file}: not a known type ({_known_types()})")
    status = file.stat()
    name = readable_name(file.relative_to(root))
    return Source(name, str(file), reader, status.st_size, status.st_mtime_ns)


def _reader_of(name: str) -> Reader | None:
    """The reader for a file of this name; hidden files have none."""
    if name.startswith("."):
        return None
    path = Path(name.lower())
    return TEXT_READERS.get(bare_suffix(path)) or TABLE_READERS.get(path.suffix)


def _known_types() -> str:
    return f"{', '.join([*TEXT_READERS, *TABLE_READERS])}; text also as .gz, .zst"
