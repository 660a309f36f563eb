"""Builds a named dataset: text in, token shards out.

The stages are generators, so memory holds a few batches of text whatever the size of the corpus.
The tokenizer, which lets go of Python's lock, works in a thread of its own while the next batch is
read and the one before is written:

    rows of the sources -> duplicates marked -> batches of about 1 MB -> tokens -> shards
"""

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kl3m_embeddings.data.readers.documents import Source, list_sources, read_records
from kl3m_embeddings.data.readers.records import (
    EMPTY,
    Document,
    ReadOptions,
    Skipped,
    counted,
)
from kl3m_embeddings.data.shards.deduplicate import (
    ExactDuplicates,
    MarkedRecord,
    NearDuplicates,
    mark_duplicates,
)
from kl3m_embeddings.data.shards.encoding import encode_texts
from kl3m_embeddings.data.shards.progress import (
    FINGERPRINT_FILES,
    PROGRESS_FILE,
    Progress,
    read_progress,
)
from kl3m_embeddings.data.shards.token_shards import (
    DATASET_FILE,
    REMEDY,
    TokenShards,
    read_info,
    token_dtype,
)
from kl3m_embeddings.data.shards.writer import (
    NO_ROOM,
    ShardWriter,
    open_writer,
    remove_build_files,
)
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.errors import ConfigError, DataError, writing
from kl3m_embeddings.files.lock import build_lock
from kl3m_embeddings.files.verified import verify_once
from kl3m_embeddings.files.whole import make_folder
from kl3m_embeddings.messages import warn

BATCH_CHARS = 1 << 20
BATCH_ROWS = 1 << 12
BATCHES_AHEAD = 1


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What the result depends on, besides the sources and the tokenizer.

    Attributes:
        drop_duplicates: drop exact duplicates; they are counted in any case.
        near_threshold: drop documents that share this part of their word 5-grams with one before,
            and exact duplicates with them; None: do not look for them.
        shard_tokens: a shard is closed before it grows beyond this; a longer document has its own.
        max_line_mb: longer lines and texts are skipped.
    """

    text_column: str = "text"
    id_column: str = "id"
    drop_duplicates: bool = False
    near_threshold: float | None = None
    shard_tokens: int = 64_000_000
    max_line_mb: int = 64


@dataclass(frozen=True)
class BuildResult:
    """A built dataset, and how it came about.

    Attributes:
        num_resumed_documents: documents that an interrupted build had left.
        was_built: False if the dataset was there already, from the same sources and options.
    """

    shards: TokenShards
    duration_s: float
    num_resumed_documents: int
    was_built: bool


def build_shards(
    name: str,
    paths: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    out_dir: str | Path,
    *,
    options: BuildOptions | None = None,
    overwrite: bool = False,
) -> BuildResult:
    """Build the dataset `out_dir/name`, go on with an interrupted build of it, or find it there.

    Args:
        name: of the dataset.
        paths: files, folders, globs or hub addresses.
        tokenizer: its fingerprint is recorded.
        out_dir: where the datasets lie.
        options: see `BuildOptions`.
        overwrite: replace a dataset that was built from other sources or with other options.

    Raises:
        ConfigError: a name, column or option is wrong, or another dataset is there.
        DataError: a source cannot be read, or holds no documents.
        OutputError: the folder cannot be written.
        RetryError: another process builds this dataset.
    """
    started_s = time.perf_counter()
    options = options or BuildOptions()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"dataset name {name!r}: use letters, digits, '_', '-' and '.'")
    folder = Path(out_dir) / name
    sources = list_sources(paths)
    identity = _identity(name, sources, tokenizer, options)
    make_folder(folder, NO_ROOM)
    with writing(folder, NO_ROOM), build_lock(folder, "builds a dataset"), _tidied(folder):
        if _is_there(folder, identity, overwrite=overwrite):
            remove_build_files(folder, keep_dataset=True)
            return BuildResult(TokenShards.open(folder), 0.0, 0, was_built=False)
        progress = read_progress(folder, identity)
        num_resumed_documents = progress.counts.num_documents
        if num_resumed_documents == 0:
            remove_build_files(folder, keep_dataset=False)
        _build(folder, sources, tokenizer.for_documents(), options, progress)
    duration_s = time.perf_counter() - started_s
    return BuildResult(TokenShards.open(folder), duration_s, num_resumed_documents, was_built=True)


def _build(
    folder: Path,
    sources: Sequence[Source],
    tokenizer: Tokenizer,
    options: BuildOptions,
    progress: Progress,
) -> None:
    """Run the stages from where the progress stands to the end."""
    dtype = token_dtype(tokenizer.vocab_size)
    num_bytes = sum(source.num_bytes for source in sources)
    with (
        open_writer(folder, progress, dtype, options.shard_tokens) as writer,
        tqdm(total=num_bytes or None, unit="B", unit_scale=True, disable=None) as bar,
    ):
        read_options = ReadOptions(
            text_column=options.text_column,
            id_column=options.id_column,
            max_line_mb=options.max_line_mb,
            on_bytes=bar.update,
        )
        records = read_records(sources, read_options, start=progress.next_row)
        exact, near = _duplicate_finders(folder, options)
        marked = mark_duplicates(records, exact, near, drop_exact=options.drop_duplicates)
        for batch, tokens in _encode_ahead(_batches(marked), tokenizer, dtype):
            _write(writer, batch, tokens)
            counts = progress.counts
            bar.set_postfix(documents=counts.num_documents, tokens=counts.num_tokens, refresh=False)
        if progress.counts.num_documents:
            writer.finish((len(sources), 0))
    if progress.counts.num_documents == 0:
        skipped = counted(progress.counts.skipped)
        names = ", ".join(source.location for source in sources[:3])
        raise DataError(f"{names}: no documents (skipped: {skipped})")


def _duplicate_finders(
    folder: Path, options: BuildOptions
) -> tuple[ExactDuplicates, NearDuplicates | None]:
    """The finders of duplicates, with what an interrupted build remembered."""
    exact = ExactDuplicates()
    near = None if options.near_threshold is None else NearDuplicates(options.near_threshold)
    for finder, name in zip((exact, near), FINGERPRINT_FILES, strict=True):
        if finder is not None:
            with (folder / name).open("rb") as file:
                while fingerprint := file.read(finder.fingerprint_bytes):
                    finder.add(fingerprint)
    return exact, near


def _batches(records: Iterable[MarkedRecord]) -> Iterator[list[MarkedRecord]]:
    """Group rows to about `BATCH_CHARS` of text."""
    batch: list[MarkedRecord] = []
    num_chars = 0
    for marked in records:
        batch.append(marked)
        if isinstance(marked.record.item, Document):
            num_chars += len(marked.record.item.text)
        if num_chars >= BATCH_CHARS or len(batch) == BATCH_ROWS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _encode_ahead(
    batches: Iterable[list[MarkedRecord]], tokenizer: Tokenizer, dtype: np.dtype[Any]
) -> Iterator[tuple[list[MarkedRecord], list[np.ndarray]]]:
    """Each batch with the tokens of its documents; the next ones are in the works meanwhile."""
    waiting: deque[tuple[list[MarkedRecord], Future[list[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(max_workers=1) as thread:
        for batch in batches:
            items = [marked.record.item for marked in batch]
            texts = [item.text for item in items if isinstance(item, Document)]
            waiting.append((batch, thread.submit(encode_texts, tokenizer, texts, dtype)))
            if len(waiting) > BATCHES_AHEAD:
                ready, tokens = waiting.popleft()
                yield ready, tokens.result()
        for ready, tokens in waiting:
            yield ready, tokens.result()


def _write(writer: ShardWriter, batch: list[MarkedRecord], tokens: list[np.ndarray]) -> None:
    """Write a batch's rows in their order."""
    tokens_of_documents = iter(tokens)
    for record, is_duplicate, fingerprints in batch:
        item = record.item
        if isinstance(item, Skipped):
            writer.add_skipped(item)
        elif len(document_tokens := next(tokens_of_documents)) == 0:
            writer.add_skipped(Skipped("", record.row + 1, EMPTY))
        else:
            writer.add_document(item, document_tokens, (record.source, record.row))
        writer.progress.counts.num_duplicates += is_duplicate
        writer.add_fingerprints(fingerprints)


def _identity(
    name: str, sources: Sequence[Source], tokenizer: Tokenizer, options: BuildOptions
) -> dict[str, Any]:
    """What makes two builds the same, as `dataset.json` records it."""
    return {
        "name": name,
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        "options": asdict(options),
        "sources": [
            {"name": one.name, "num_bytes": one.num_bytes, "modified_ns": one.modified_ns}
            for one in sources
        ],
    }


def _is_there(folder: Path, identity: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder holds this very dataset, whole; another one is replaced or refused."""
    if not (folder / DATASET_FILE).exists():
        return False
    try:
        info = read_info(folder)
        verify_once(folder, info, REMEDY)
    except DataError as error:
        warn(f"{str(error).removesuffix(f'; {REMEDY}')}: building the dataset again")
        return False
    differing = [key for key, value in identity.items() if info.get(key) != value]
    if differing and not overwrite:
        raise ConfigError(
            f"{folder}: holds a dataset with other {', '.join(differing)}; "
            "give --overwrite to replace it, or another name"
        )
    return not differing


@contextmanager
def _tidied(folder: Path) -> Iterator[None]:
    """Leaves nothing of a build that ends before its first shard."""
    try:
        yield
    finally:
        if not ((folder / DATASET_FILE).exists() or (folder / PROGRESS_FILE).exists()):
            remove_build_files(folder, keep_dataset=False)
            with suppress(OSError):  # it may hold files that are not ours
                folder.rmdir()
