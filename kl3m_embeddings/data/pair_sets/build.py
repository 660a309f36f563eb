"""Builds a pair set: rows of pairs in, token ids and rows of text ids out.

1. Rows are read, checked and brought into one form, about 1 MB of text at a time.
2. Texts not seen before are tokenised and appended to the token shards; a text's index there is
   its id. What was seen is remembered by a 128-bit hash.
3. Rows become ids. A row whose query has no tokens is skipped; so is one without a positive left.
4. All this goes to a folder beside the pair set's own, which is put in its place at the end:
   a killed build leaves the old set, or none.

Memory holds a few MB of text, about 200 bytes for each distinct text, and 8 for each id.
"""

import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kl3m_embeddings.data.counter_random import derive_key
from kl3m_embeddings.data.pair_sets.files import PairFile, PairReader, list_pair_files
from kl3m_embeddings.data.pair_sets.formats import PairRow
from kl3m_embeddings.data.pair_sets.pair_set import (
    REMEDY,
    TEXTS_FOLDER,
    PairSet,
    is_made_of_pairs,
    is_pair_set,
    read_info,
)
from kl3m_embeddings.data.pair_sets.writer import NO_ROOM, PairSetWriter
from kl3m_embeddings.data.readers.records import ReadOptions, Skipped, counted
from kl3m_embeddings.data.shards.build import BATCH_CHARS, BATCH_ROWS
from kl3m_embeddings.data.shards.progress import Progress
from kl3m_embeddings.data.shards.token_shards import QUARANTINE_FILE, token_dtype
from kl3m_embeddings.data.shards.writer import open_writer, remove_build_files
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.errors import ConfigError, DataError, writing
from kl3m_embeddings.files.lock import build_lock
from kl3m_embeddings.files.verified import verify_once
from kl3m_embeddings.files.whole import make_folder
from kl3m_embeddings.messages import warn

SHARD_TOKENS = 64_000_000


@dataclass(frozen=True)
class PairBuildResult:
    """A built pair set, and how it came about; `was_built`: False if it was there already."""

    pair_set: PairSet
    duration_s: float
    was_built: bool


def build_pair_set(
    name: str,
    paths: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    out_dir: str | Path,
    *,
    query_prefix: str = "",
    document_prefix: str = "",
    max_line_mb: int = 64,
    overwrite: bool = False,
) -> PairBuildResult:
    """Build the pair set `out_dir/name`, or find it there.

    Args:
        name: of the pair set.
        paths: files, folders or globs.
        tokenizer: its fingerprint is recorded.
        out_dir: where the pair sets lie.
        query_prefix: tokenised before every query, as one text with it.
        document_prefix: before every positive and negative.
        max_line_mb: longer lines and texts are skipped.
        overwrite: replace a pair set that was built from other sources or with other options.

    Raises:
        ConfigError: the name is wrong, or something else is there.
        DataError: a file cannot be read, or holds no usable row.
        OutputError: the folder cannot be written.
        RetryError: another process builds this pair set.
    """
    started_s = time.perf_counter()
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"pair set name {name!r}: use letters, digits, '_', '-' and '.'")
    folder, partial = Path(out_dir) / name, Path(out_dir) / f".{name}.partial"
    files = list_pair_files(paths)
    prefixes = {"query_prefix": query_prefix, "document_prefix": document_prefix}
    identity = _identity(name, files, tokenizer, max_line_mb) | prefixes
    if _is_there(folder, identity, overwrite=overwrite):
        return PairBuildResult(PairSet.open(folder), 0.0, was_built=False)
    make_folder(partial, NO_ROOM)
    with writing(folder, NO_ROOM), build_lock(partial, "builds a pair set"):
        try:
            _build(partial, files, tokenizer, identity)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return PairBuildResult(PairSet.open(folder), time.perf_counter() - started_s, was_built=True)


def open_or_build_pair_set(
    name: str,
    paths: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    cache_dir: str | Path,
    *,
    query_prefix: str = "",
    document_prefix: str = "",
) -> PairSet:
    """Open a pair set, or build one of files in a folder of the cache that is theirs alone.

    Args:
        name: of the pair set, whatever it was built as.
        paths: one built pair set, or files, folders and globs.
        tokenizer: a built pair set must be of the same.
        cache_dir: where pair sets of files lie.
        query_prefix: a built pair set must have the same.
        document_prefix: likewise.

    Raises:
        DataError: a built pair set is damaged or is of another tokenizer or prefix.
        ConfigError, OutputError, RetryError: as `build_pair_set`.
    """
    many = [paths] if isinstance(paths, str | Path) else list(paths)
    prefixes = {"query_prefix": query_prefix, "document_prefix": document_prefix}
    if len(many) == 1 and is_pair_set(Path(many[0])):
        verify_once(Path(many[0]), read_info(Path(many[0])), REMEDY)
        pairs = PairSet.open(many[0])
        _check_built(pairs, tokenizer, prefixes)
        return replace(pairs, name=name)
    sources = [str(Path(path).resolve()) for path in many]
    key = derive_key(tokenizer.text_fingerprint, query_prefix, document_prefix, *sources)
    folder = Path(cache_dir) / f"{key:016x}"
    return build_pair_set(
        name,
        many,
        tokenizer,
        folder,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        overwrite=True,
    ).pair_set


def _check_built(pairs: PairSet, tokenizer: Tokenizer, prefixes: Mapping[str, str]) -> None:
    """Check that a pair set fits this tokenizer and these prefixes."""
    if pairs.tokenizer_fingerprint != tokenizer.text_fingerprint:
        raise DataError(
            f"{pairs.path}: built with another tokenizer than this one; "
            "build it again, or name its files instead"
        )
    for key, prefix in prefixes.items():
        if pairs.info[key] != prefix:
            raise DataError(
                f"{pairs.path}: built with {key} {pairs.info[key]!r}, and it is to be {prefix!r}; "
                f"set {key}, build it again, or name its files instead"
            )


def _build(
    folder: Path, files: Sequence[PairFile], tokenizer: Tokenizer, identity: Mapping[str, Any]
) -> None:
    """Write a whole pair set into a folder, over what a killed build may have left there."""
    (folder / TEXTS_FOLDER).mkdir(exist_ok=True)
    remove_build_files(folder / TEXTS_FOLDER, keep_dataset=False)
    progress = Progress({key: identity[key] for key in ("name", "tokenizer")})
    dtype = token_dtype(tokenizer.vocab_size)
    num_bytes = sum(file.num_bytes for file in files)
    with (
        open_writer(folder / TEXTS_FOLDER, progress, dtype, SHARD_TOKENS) as texts,
        (folder / QUARANTINE_FILE).open("wb") as quarantine,
        tqdm(total=num_bytes, unit="B", unit_scale=True, disable=None) as bar,
    ):
        prefixes = (identity["query_prefix"], identity["document_prefix"])
        writer = PairSetWriter(tokenizer, texts, dtype, quarantine, *prefixes)
        options = ReadOptions(max_line_mb=identity["max_line_mb"], on_bytes=bar.update)
        readers = [PairReader(file, options) for file in files]
        files_read = [_read_file(reader, writer) for reader in readers]
        _require_one_kind(readers)
        writer.finish(folder, identity, files_read)


def _read_file(reader: PairReader, writer: PairSetWriter) -> dict[str, Any]:
    """Append a file's rows; what was found in it, as `dataset.json` records it."""
    first_row, skipped_before = writer.num_rows, writer.skipped.copy()
    for batch in _batches(reader.rows()):
        writer.add(batch, reader.file.name)
    writer.filtered.update(reader.filtered)
    assert reader.pair_format is not None
    num_rows = writer.num_rows - first_row
    if num_rows == 0:
        assert writer.last_skipped is not None
        skipped = counted(writer.skipped - skipped_before)
        raise DataError(
            f"{reader.file.location}:{writer.last_skipped.line}: no usable row up to this one "
            f"(skipped: {skipped}); mend the file or leave it out"
        )
    return {
        "name": reader.file.name,
        "num_rows": num_rows,
        "format": reader.pair_format.name,
        "ignored_keys": sorted(reader.ignored_keys),
    }


def _batches(rows: Iterable[PairRow | Skipped]) -> Iterator[list[PairRow | Skipped]]:
    """Group rows to about `BATCH_CHARS` of text."""
    batch: list[PairRow | Skipped] = []
    num_chars = 0
    for row in rows:
        batch.append(row)
        if isinstance(row, PairRow):
            num_chars += sum(map(len, (row.query, *row.positives, *row.negatives)))
        if num_chars >= BATCH_CHARS or len(batch) == BATCH_ROWS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _require_one_kind(readers: Sequence[PairReader]) -> None:
    """Check that all files have labels by one key, or none: one loss cannot read both.

    `label` is a class as a rule and `score` a grade, of 0 to 5 even: two scales are none.
    """
    labelled = [reader for reader in readers if reader.pair_format and reader.pair_format.label]
    if labelled and len(labelled) < len(readers):
        other = next(reader for reader in readers if reader not in labelled)
        raise DataError(
            f"{labelled[0].file.location} has labels and {other.file.location} has none; "
            "make a pair set of each"
        )
    keys = {reader.pair_format.label: reader for reader in labelled if reader.pair_format}
    if len(keys) > 1:
        (first_key, first), (second_key, second) = [*keys.items()][:2]
        raise DataError(
            f"{first.file.location} has {first_key!r}, "
            f"{second.file.location} has {second_key!r}: they may be "
            "of two scales; make a pair set of each, or rename one"
        )


def _identity(
    name: str, files: Sequence[PairFile], tokenizer: Tokenizer, max_line_mb: int
) -> dict[str, Any]:
    """What makes two builds the same, as `dataset.json` records it."""
    return {
        "name": name,
        "tokenizer": {
            "fingerprint": tokenizer.text_fingerprint,
            "vocab_size": tokenizer.vocab_size,
        },
        "max_line_mb": max_line_mb,
        "sources": [
            {"name": one.name, "num_bytes": one.num_bytes, "modified_ns": one.modified_ns}
            for one in files
        ],
    }


def _is_there(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder holds this very pair set, whole; another one is replaced or refused."""
    if not folder.exists():
        return False
    try:
        info = read_info(folder)
        verify_once(folder, info, REMEDY)
    except DataError as error:
        if not (is_made_of_pairs(folder) or (folder / TEXTS_FOLDER).is_dir()):
            raise ConfigError(
                f"{folder}: exists and is no pair set; name another, or remove it"
            ) from None
        warn(f"{str(error).removesuffix(f'; {REMEDY}')}: building the pair set again")
        return False
    differing = [key for key, value in identity.items() if info.get(key) != value]
    if differing and not overwrite:
        raise ConfigError(
            f"{folder}: holds a pair set with other {', '.join(differing)}; "
            "overwrite it, or name another"
        )
    return not differing
