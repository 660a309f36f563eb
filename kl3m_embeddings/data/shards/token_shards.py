"""Token shards: the on-disk form of a named dataset, and its reader.

A dataset is a folder that holds

- `tokens-00000.bin`, `tokens-00001.bin`, ...: the documents' tokens, end to end, little-endian
  uint16 (uint32 where the vocabulary is larger than 65,536). A document never straddles two
  shards, and no special token is stored: what a task adds, it adds when it makes a batch.
- `document_starts.bin`: int64, one more than there are documents: where each document starts in
  the concatenation of the shards.
- `ids.bin`, `id_starts.bin`: the documents' ids, UTF-8, end to end, and where each starts (int64).
- `quarantine.jsonl`: file, line and reason of what was skipped; never its content.
- `dataset.json`: counts, the tokenizer's fingerprint, and every file's size and SHA-256. It is
  written last, so a folder without it is not a dataset.

Everything is memory-mapped: opening costs milliseconds however large the dataset is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt16, UInt32

from kl3m_embeddings.errors import DamagedError, DataError
from kl3m_embeddings.files.hashes import sha256_of_files, verify_files
from kl3m_embeddings.files.records import Count, Positive, Record, check_record, read_object

FORMAT = "kl3m-token-shards"
VERSION = 1
DATASET_FILE = "dataset.json"
STARTS_FILE = "document_starts.bin"
IDS_FILE = "ids.bin"
ID_STARTS_FILE = "id_starts.bin"
QUARANTINE_FILE = "quarantine.jsonl"
REMEDY = "build it again with `kl3m corpus build`"


class FileRecord(Record):
    """A file, as `dataset.json` lists it."""

    num_bytes: Count
    sha256: str


class ShardRecord(Record):
    """A shard, as `dataset.json` lists it."""

    file: str
    num_documents: Count
    num_tokens: Count


class TokenizerRecord(Record):
    """The tokenizer that made the tokens."""

    fingerprint: str
    vocab_size: Positive


class FolderInfo(Record):
    """What `dataset.json` says of any folder of ours."""

    name: str
    tokenizer: TokenizerRecord
    files: dict[str, FileRecord]
    sha256: str


class DatasetInfo(FolderInfo):
    """What it says of token shards; `sources` and `options` are there where it was built alone."""

    dtype: Literal["uint16", "uint32"]
    num_documents: Count
    num_tokens: Count
    num_text_bytes: Count
    num_duplicates: Count
    skipped: dict[str, Count]
    shards: list[ShardRecord]
    sources: list[dict[str, Any]] | None = None
    options: dict[str, Any] | None = None


Tokens = UInt16[np.ndarray, " _"] | UInt32[np.ndarray, " _"]


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The narrowest little-endian type that holds every id of the vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def shard_file(index: int) -> str:
    """Name of the shard with this index."""
    return f"tokens-{index:05d}.bin"


@dataclass(frozen=True)
class TokenShards:
    """A built dataset, opened for random access.

    Attributes:
        document_starts: positions in the concatenated token stream, `num_documents + 1` of them.
        shard_starts: positions at which the shards start, and the end of the last one.
        sha256: one hash of the whole dataset; equal hashes mean equal content.
        info: `dataset.json` as read.
    """

    name: str
    path: Path
    num_documents: int
    num_tokens: int
    tokenizer_fingerprint: str
    sha256: str
    document_starts: Int64[np.ndarray, " documents_and_1"]
    shard_starts: Int64[np.ndarray, " shards_and_1"]
    info: Mapping[str, Any]
    _shards: tuple[Tokens, ...]
    _ids: np.ndarray
    _id_starts: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> "TokenShards":
        """Open a built dataset; sizes are checked, contents are not (see `files/verified.py`).

        Raises:
            DataError: the folder is no complete dataset, or a file is missing or has another size.
        """
        path = Path(path)
        info = read_info(path)
        dtype = np.dtype(info["dtype"]).newbyteorder("<")
        shards = tuple(_map(path / shard["file"], dtype) for shard in info["shards"])
        return cls(
            name=info["name"],
            path=path,
            num_documents=info["num_documents"],
            num_tokens=info["num_tokens"],
            tokenizer_fingerprint=info["tokenizer"]["fingerprint"],
            sha256=info["sha256"],
            document_starts=_map(path / STARTS_FILE, np.dtype("<i8")),
            shard_starts=np.cumsum([0, *map(len, shards)], dtype=np.int64),
            info=info,
            _shards=shards,
            _ids=_map(path / IDS_FILE, np.dtype(np.uint8)),
            _id_starts=_map(path / ID_STARTS_FILE, np.dtype("<i8")),
        )

    def gather(
        self, starts: Int64[np.ndarray, " batch"], length: int
    ) -> Int64[np.ndarray, "batch length"]:
        """Read `length` tokens from each position of the concatenated token stream.

        Past the end of its shard a row repeats the shard's last token: the caller, who knows where
        the document ends, masks it.

        Raises:
            IndexError: a start lies outside the stream.
        """
        if len(starts) and (starts.min() < 0 or starts.max() >= self.num_tokens):
            raise IndexError(f"{self.name}: a start lies outside 0..{self.num_tokens - 1}")
        rows = np.empty((len(starts), length), dtype=np.int64)
        shard_of_row = np.searchsorted(self.shard_starts, starts, side="right") - 1
        for index in np.unique(shard_of_row):
            in_shard = np.flatnonzero(shard_of_row == index)
            offsets = starts[in_shard] - self.shard_starts[index]
            positions = offsets[:, None] + np.arange(length)
            rows[in_shard] = self._shards[index].take(positions, mode="clip")
        return rows

    def document_id(self, index: int) -> str:
        """The id of a document, as its source gave it."""
        start, end = self._id_starts[_checked(index, self.num_documents) :][:2]
        return self._ids[start:end].tobytes().decode()

    def document_tokens(self, index: int) -> Tokens:
        """The tokens of a document: a view of the mapped file."""
        start, end = self.document_starts[_checked(index, self.num_documents) :][:2]
        shard = int(np.searchsorted(self.shard_starts, start, side="right")) - 1
        base = self.shard_starts[shard]
        return self._shards[shard][start - base : end - base]  # a document is in one shard

    def verify(self) -> None:
        """Compare every file with its SHA-256.

        Raises:
            DataError: naming the first file that differs.
        """
        verify_files(self.path, self.info, REMEDY)


def read_info(path: Path) -> dict[str, Any]:
    """Read a dataset's `dataset.json` and check that its files are there, in the size it names.

    Raises:
        DataError: as `read_checked_info`.
    """
    info = read_checked_info(path, "dataset", FORMAT, VERSION, DatasetInfo, REMEDY)
    num_starts, token_bytes = info["num_documents"] + 1, np.dtype(info["dtype"]).itemsize
    expected = {
        **{one["file"]: one["num_tokens"] * token_bytes for one in info["shards"]},
        **dict.fromkeys((STARTS_FILE, ID_STARTS_FILE), 8 * num_starts),
    }
    found = {name: info["files"].get(name, {}).get("num_bytes") for name in (*expected, IDS_FILE)}
    num_tokens = sum(one["num_tokens"] for one in info["shards"])
    if info["num_tokens"] != num_tokens or found != {**expected, IDS_FILE: found[IDS_FILE]}:
        raise DamagedError(f"{path / DATASET_FILE}: its numbers contradict each other; {REMEDY}")
    return info


def read_checked_info(
    path: Path,
    kind: str,
    format_name: str,
    version: int,
    content: type[FolderInfo],
    remedy: str,
) -> dict[str, Any]:
    """Read a folder's `dataset.json` and check its format, and its files' presence and sizes.

    Args:
        path: the folder.
        kind: what it is called to the user.
        format_name: that it must name.
        version: likewise.
        content: what else must be in it.
        remedy: what helps if it is not.

    Raises:
        DataError: naming what is missing or different, and the `remedy`.
    """
    file = path / DATASET_FILE
    if not file.is_file():
        raise DataError(f"{path}: not a built {kind} (no {DATASET_FILE}); {remedy}")
    info = read_object(file, remedy)
    if (info.get("format"), info.get("version")) != (format_name, version):
        raise DataError(f"{file}: not a {kind} of format {format_name} {version}; {remedy}")
    check_record(file, info, content, remedy)
    for name, expected in info["files"].items():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != expected["num_bytes"]:
            size = "is missing" if found is None else f"has {found:,} bytes"
            raise DamagedError(
                f"{path / name}: {size}, expected {expected['num_bytes']:,}; {remedy}"
            )
    if sha256_of_files(info["files"]) != info["sha256"]:
        raise DamagedError(f"{file}: its sha256 does not match its files' hashes; {remedy}")
    return info


def _map(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """Map a file as a plain read-only array (indexing np.memmap itself is several times slower)."""
    if path.stat().st_size == 0:  # mmap refuses empty files
        return np.zeros(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r")).view(np.ndarray)


def _checked(index: int, num_documents: int) -> int:
    """The index itself, if there is such a document."""
    if not 0 <= index < num_documents:
        raise IndexError(f"document {index} of {num_documents}")
    return index
