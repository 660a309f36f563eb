"""Pair sets: the on-disk form of queries with their positives and negatives, and its reader.

A pair set is a folder that holds

- `texts/`: every distinct text once, behind the prefix of its role, a dataset of token shards (see
  `shards/token_shards.py`). A text's index in it is its id; its name there is where it was first
  seen, such as `pairs.jsonl:17`.
- `originals.npy`: int64, for each text id the least id of the same text without its prefix: another
  one only where the text is a query and a document, and their prefixes differ.
- `queries.npy`: int64, the text id of each row's query.
- `positives.npy`, `positive_starts.npy`: int64, the text ids of the rows' positives, end to end,
  and where each row's start (one more than there are rows). The same for `negatives`.
- `labels.npy`, `positive_scores.npy`, `negative_scores.npy`: float32, for each row, positive and
  negative; NaN where a teacher gave no score. Empty where the set has none at all.
- `lines.npy`: int64, the line of each row in its file.
- `quarantine.jsonl`: file, line and reason of the rows that were skipped; never their content.
- `dataset.json`: counts, prefixes, the tokenizer's fingerprint, each file's size and SHA-256. It is
  written last, so a folder without it is not a pair set.

Row r's positives are `positives[positive_starts[r] : positive_starts[r + 1]]`. Everything is
memory-mapped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from kl3m_embeddings.data.shards.token_shards import (
    DATASET_FILE,
    QUARANTINE_FILE,
    FolderInfo,
    TokenShards,
    read_checked_info,
)
from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.hashes import verify_files
from kl3m_embeddings.files.records import Count, Positive, Record, read_object

FORMAT = "kl3m-pair-set"
VERSION = 3
TEXTS_FOLDER = "texts"
REMEDY = "remove the folder and build it again"

ARRAYS: dict[str, type[np.generic]] = {
    "originals": np.int64,
    "queries": np.int64,
    "positives": np.int64,
    "positive_starts": np.int64,
    "positive_scores": np.float32,
    "negatives": np.int64,
    "negative_starts": np.int64,
    "negative_scores": np.float32,
    "labels": np.float32,
    "lines": np.int64,
}
FILES = {*(f"{name}.npy" for name in ARRAYS), TEXTS_FOLDER, DATASET_FILE, QUARANTINE_FILE}
"""All that lies in the folder of a pair set."""


class ReadFile(Record):
    """A file of pairs that was read."""

    name: str
    num_rows: Count
    format: str
    ignored_keys: list[str]


class PairSetInfo(FolderInfo):
    """What `dataset.json` says of a pair set."""

    query_prefix: str
    document_prefix: str
    max_line_mb: Positive
    sources: list[dict[str, Any]]
    num_rows: Positive
    skipped: dict[str, Count]
    filtered: dict[str, Count]
    files_read: list[ReadFile]


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """A built pair set, opened for random access.

    Attributes:
        originals: for each text id the least one of the same text, whatever the prefix.
        queries: text ids, one for each row.
        positives: text ids of all rows; row `r` has those from `positive_starts[r]` on.
        negatives: as the positives.
        labels: how alike query and positive are; None in a set without labels.
        positive_scores: a teacher's, NaN where it gave none; None in a set without any.
        lines: of each row in its file.
        texts: the tokens; `texts.document_tokens(id)`.
        sha256: one hash of the whole set; equal hashes mean equal content.
        info: `dataset.json` as read.
    """

    name: str
    path: Path
    originals: Int64[np.ndarray, " texts"]
    queries: Int64[np.ndarray, " rows"]
    positives: Int64[np.ndarray, " positives"]
    positive_starts: Int64[np.ndarray, " rows_and_1"]
    positive_scores: Float32[np.ndarray, " positives"] | None
    negatives: Int64[np.ndarray, " negatives"]
    negative_starts: Int64[np.ndarray, " rows_and_1"]
    negative_scores: Float32[np.ndarray, " negatives"] | None
    labels: Float32[np.ndarray, " rows"] | None
    lines: Int64[np.ndarray, " rows"]
    texts: TokenShards
    sha256: str
    info: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> "PairSet":
        """Open a built pair set; sizes are checked, contents are not (see `files/verified.py`).

        Raises:
            DataError: the folder is no complete pair set, or a file is missing or has another size.
        """
        path = Path(path)
        info = read_info(path)
        arrays = {name: _map(path / f"{name}.npy", dtype) for name, dtype in ARRAYS.items()}
        for name in ("labels", "positive_scores", "negative_scores"):
            arrays[name] = arrays[name] if len(arrays[name]) else None
        texts = TokenShards.open(path / TEXTS_FOLDER)
        return cls(
            name=info["name"], path=path, texts=texts, sha256=info["sha256"], info=info, **arrays
        )

    @property
    def num_rows(self) -> int:
        """Queries with their positives and negatives."""
        return len(self.queries)

    @property
    def num_texts(self) -> int:
        """Distinct texts."""
        return self.texts.num_documents

    @property
    def tokenizer_fingerprint(self) -> str:
        """Of the tokenizer that made the tokens."""
        return self.texts.tokenizer_fingerprint

    @property
    def query_prefix(self) -> str:
        """Stands before every query in `texts`."""
        prefix: str = self.info["query_prefix"]
        return prefix

    @property
    def document_prefix(self) -> str:
        """Stands before every positive and negative in `texts`."""
        prefix: str = self.info["document_prefix"]
        return prefix

    @property
    def has_labels(self) -> bool:
        """Whether every row has one positive and a label that says how good it is."""
        return self.labels is not None

    @cached_property
    def has_teacher_scores(self) -> bool:
        """Whether a teacher has scored every positive and every negative."""
        scores = (self.positive_scores, self.negative_scores)
        return all(kind is not None and not np.isnan(kind).any() for kind in scores)

    @property
    def min_negatives(self) -> int:
        """Negatives of the row that has fewest."""
        return int(np.diff(self.negative_starts).min())

    @cached_property
    def text_lengths(self) -> Int64[np.ndarray, " texts"]:
        """Tokens of each text."""
        return np.diff(self.texts.document_starts)

    def text_tokens(
        self, ids: Int64[np.ndarray, " samples"], length: int, *, cuts_left: bool = False
    ) -> tuple[Int64[np.ndarray, "samples {length}"], Int64[np.ndarray, " samples"]]:
        """`length` tokens of texts at most, and how many they are; zeros from there on.

        Of longer texts it is the first tokens, or the last ones if `cuts_left`.
        """
        lengths = np.minimum(self.text_lengths[ids], length)
        cut = self.text_lengths[ids] - lengths if cuts_left else 0
        tokens = self.texts.gather(self.texts.document_starts[ids] + cut, length)
        tokens[np.arange(length) >= lengths[:, None]] = 0
        return tokens, lengths

    def place(self, row: int) -> str:
        """Where a row was read, such as `pairs.jsonl:17`."""
        first_row = 0
        for file in self.info["files_read"]:
            if row < first_row + file["num_rows"]:
                return f"{file['name']}:{self.lines[row]}"
            first_row += file["num_rows"]
        raise IndexError(f"row {row} of {self.num_rows}")

    def summary(self) -> list[str]:
        """What was read and what was left out, a line each."""
        info = self.info
        lines = [
            f"{self.name}: {self.num_rows:,} rows, {len(self.positives):,} positives, "
            f"{len(self.negatives):,} negatives, {self.num_texts:,} distinct texts of "
            f"{self.texts.num_tokens / self.num_texts:,.0f} tokens"
        ]
        for file in info["files_read"]:
            ignored = ", ".join(file["ignored_keys"])
            note = f"; not read: {ignored}" if ignored else ""
            lines.append(f"  {file['name']}: {file['num_rows']:,} rows, {file['format']}{note}")
        if self.query_prefix or self.document_prefix:
            lines.append(
                f"  before queries: {self.query_prefix!r}, documents: {self.document_prefix!r}"
            )
        for what, counts in (("rows skipped", "skipped"), ("texts left out", "filtered")):
            if info[counts]:
                reasons = ", ".join(f"{n:,} {reason}" for reason, n in info[counts].items())
                lines.append(f"  {what}: {reasons}")
        return lines

    def verify(self) -> None:
        """Compare every file with its SHA-256.

        Raises:
            DataError: naming the first file that differs.
        """
        verify_files(self.path, self.info, REMEDY)


def read_info(path: Path) -> dict[str, Any]:
    """Read a pair set's `dataset.json` and check that its files are there, in the size it names."""
    info = read_checked_info(path, "pair set", FORMAT, VERSION, PairSetInfo, REMEDY)
    listed = {name.partition("/")[0] for name in info["files"]} | {DATASET_FILE}
    if listed != FILES or info["num_rows"] != sum(one["num_rows"] for one in info["files_read"]):
        raise DamagedError(f"{path / DATASET_FILE}: its numbers contradict each other; {REMEDY}")
    return info


def is_pair_set(path: Path) -> bool:
    """Whether a folder is a pair set, whole or not, of this version or another."""
    try:
        return read_object(path / DATASET_FILE, REMEDY).get("format") == FORMAT
    except DamagedError:
        return is_made_of_pairs(path) and (path / TEXTS_FOLDER).is_dir()


def is_made_of_pairs(path: Path) -> bool:
    """Whether there is nothing in a folder but what lies in that of a pair set."""
    return path.is_dir() and {one.name for one in path.iterdir()} <= FILES


def _map(path: Path, dtype: type[np.generic]) -> Any:  # noqa: ANN401 - as ARRAYS says
    """Map an array's file as a plain read-only array (see `shards/token_shards.py`)."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: no array ({error}); {REMEDY}") from None
    if mapped.ndim != 1 or mapped.dtype != dtype:
        raise DamagedError(f"{path}: another array than that of a pair set; {REMEDY}")
    return np.asarray(mapped).view(np.ndarray)
