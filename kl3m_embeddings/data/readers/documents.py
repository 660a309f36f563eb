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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kl3m_embeddings.data.readers.records import Document, ReadOptions, Skipped
from kl3m_embeddings.data.readers.tables import read_arrow, read_hub, read_parquet
from kl3m_embeddings.data.readers.text import COMPRESSIONS, read_csv, read_jsonl, read_text
from kl3m_embeddings.errors import DataError

Reader = Callable[[str, str, ReadOptions, int], Iterator[Document | Skipped]]
"""(location, name, options, first row): the rows from the first row on, one item a row."""

TEXT_READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
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
    if path.is_file():
        return [(path, path.parent)]
    if path.is_dir():
        root, files = path, path.rglob("*")
    elif WILDCARD.search(str(path)):
        first_wildcard = next(i for i, part in enumerate(path.parts) if WILDCARD.search(part))
        root = Path(*path.parts[:first_wildcard])
        files = root.glob(str(Path(*path.parts[first_wildcard:])))
    else:
        raise DataError(f"{path}: no such file or folder")
    known = sorted(file for file in files if file.is_file() and is_known(file))
    if not known:
        raise DataError(f"{path}: no file of a known type there ({known_types})")
    return [(file, root) for file in known]


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
    name = file.relative_to(root).as_posix()
    return Source(name, str(file), reader, status.st_size, status.st_mtime_ns)


def _reader_of(name: str) -> Reader | None:
    """The reader for a file of this name; hidden files have none."""
    if name.startswith("."):
        return None
    path = Path(name.lower())
    if path.suffix in COMPRESSIONS:
        return TEXT_READERS.get(path.with_suffix("").suffix)
    return TEXT_READERS.get(path.suffix) or TABLE_READERS.get(path.suffix)


def _known_types() -> str:
    return f"{', '.join([*TEXT_READERS, *TABLE_READERS])}; text also as .gz, .zst"
