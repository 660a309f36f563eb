"""One file of documents to one Parquet file of chunks, in bounded memory."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kl3m_embeddings.data.prefetch import prefetched
from kl3m_embeddings.data.readers.documents import Source, read_records
from kl3m_embeddings.data.readers.records import Document, ReadOptions, Skipped
from kl3m_embeddings.embed.chunker import Chunk, Chunker
from kl3m_embeddings.embed.sealed import InputFile, SealedOutput
from kl3m_embeddings.errors import NO_ROOM, ConfigError
from kl3m_embeddings.files.hashes import sha256_of_file
from kl3m_embeddings.files.whole import durable_file

if TYPE_CHECKING:
    import pyarrow

BATCH_CHARS = 1 << 19
BATCH_DOCUMENTS = 1 << 12
BATCHES_AHEAD = 1
ROW_GROUP_CHARS = 1 << 22
"""A reader needs so much text in memory."""
COLUMNS = ("id", "chunk", "start", "end", "num_tokens", "text")

Batch = list[Document | Skipped]


def chunk_file(
    source: Source, folder: Path, name: str, chunker: Chunker, options: ReadOptions
) -> SealedOutput:
    """Write the chunks of a file's documents.

    Args:
        source: the file.
        folder: of the outputs.
        name: of this one, below the folder.
        chunker: cuts the texts.
        options: what to read of it.

    Raises:
        ConfigError: it lacks a column.
        DataError: it cannot be read.
        OutputError: the output cannot be written.
    """
    before = _input_file(source)
    path = folder / name
    counts = dict.fromkeys(("documents", "chunks", "tokens", "characters", "duplicate_ids"), 0)
    skipped: dict[str, int] = {}
    kept_once: set[int] = set()
    ids: set[int] = set()
    items = (record.item for record in read_records([source], options))
    with (
        durable_file(path, NO_ROOM) as temporary,
        prefetched(_chunked(_batches(items), chunker), BATCHES_AHEAD) as ready,
    ):
        writer = _Writer(temporary, options.keep_columns)
        for item, cut in chain.from_iterable(ready):
            if isinstance(item, Skipped):
                skipped[item.reason] = skipped.get(item.reason, 0) + 1
                continue
            writer.add(item, cut)
            kept_once |= {i for i, value in enumerate(item.kept) if value is not None}
            counts["documents"] += 1
            counts["chunks"] += len(cut)
            counts["tokens"] += sum(chunk.num_tokens for chunk in cut)
            counts["characters"] += len(item.text)
            key = hash_of(item.id)
            counts["duplicate_ids"] += key in ids
            ids.add(key)
        writer.close()
        _require_kept(source, options, kept_once, counts["documents"])
    return SealedOutput(
        output=name,
        num_bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        input=before,
        counts=counts,
        skipped=skipped,
    )


def hash_of(text: str) -> int:
    """64 bits of a text's hash, which is the same in every process."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _input_file(source: Source) -> InputFile:
    """What a source is now; of the hub nothing is known."""
    path = Path(source.location)
    is_file = path.is_file()
    return InputFile(
        name=source.name,
        num_bytes=source.num_bytes,
        modified_ns=source.modified_ns,
        sha256=sha256_of_file(path) if is_file else "",
    )


def _require_kept(
    source: Source, options: ReadOptions, found: set[int], num_documents: int
) -> None:
    """A column to keep that no row has is a wrong name."""
    missing = [name for i, name in enumerate(options.keep_columns) if i not in found]
    if missing and num_documents:
        raise ConfigError(f"{source.location}: --keep {missing[0]}: no row has such a value")


def _batches(items: Iterable[Document | Skipped]) -> Iterator[Batch]:
    """Group rows to about `BATCH_CHARS` of text."""
    batch: Batch = []
    num_chars = 0
    for item in items:
        batch.append(item)
        num_chars += len(item.text) if isinstance(item, Document) else 0
        if num_chars >= BATCH_CHARS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _chunked(
    batches: Iterable[Batch], chunker: Chunker
) -> Iterator[list[tuple[Document | Skipped, list[Chunk]]]]:
    """Each batch's rows with their chunks; a row that is no document has none."""
    for batch in batches:
        texts = [one.text if isinstance(one, Document) else "" for one in batch]
        yield list(zip(batch, chunker.chunk(texts), strict=True))


class _Writer:
    """Rows to a Parquet file, row group by row group."""

    def __init__(self, path: Path, keep: Sequence[str]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        if taken := sorted({*keep} & {*COLUMNS}):
            raise ConfigError(f"--keep {taken[0]}: chunks have a column of this name themselves")
        numbers = {"chunk": pa.int32(), "start": pa.int64(), "end": pa.int64()}
        types = {name: pa.string() for name in (*COLUMNS, *keep)} | numbers
        types["num_tokens"] = pa.int32()
        self._schema = pa.schema([(name, types[name]) for name in (*COLUMNS, *keep)])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._num_chars = 0

    def add(self, document: Document, chunks: Sequence[Chunk]) -> None:
        """Write the chunks of a document."""
        for number, (start, end, num_tokens) in enumerate(chunks):
            text = document.text[start:end]
            self._rows.append((document.id, number, start, end, num_tokens, text, *document.kept))
            self._num_chars += len(text)
            if self._num_chars >= ROW_GROUP_CHARS:
                self._flush()

    def close(self) -> None:
        """Write what is left; a file without rows has its columns all the same."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table(), row_group_size=len(self._rows))
        self._rows, self._num_chars = [], 0

    def _table(self) -> "pyarrow.Table":
        import pyarrow as pa

        columns = zip(*self._rows, strict=True)
        arrays = [
            pa.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema)
