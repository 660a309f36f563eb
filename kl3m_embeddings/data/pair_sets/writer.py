"""Writes a pair set: texts to token shards, rows to arrays of text ids.

A text is tokenised behind the prefix of its role: query or document (a positive or negative). So a
text in both roles has two ids where the prefixes differ, and one where they do not.

What a query has as a positive in one row and as a negative in another is no negative: nobody can
know it before the last row, so it is left out by `finish`.

Memory holds about 200 bytes for each distinct text and 8 for each id, until `finish`.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.data.pair_sets.formats import (
    EMPTY_TEXT,
    NO_POSITIVE,
    NO_QUERY,
    POSITIVE_AS_NEGATIVE,
    PairRow,
)
from kl3m_embeddings.data.pair_sets.pair_set import ARRAYS, FORMAT, VERSION
from kl3m_embeddings.data.readers.records import Document, Skipped
from kl3m_embeddings.data.shards.encoding import encode_texts
from kl3m_embeddings.data.shards.token_shards import DATASET_FILE
from kl3m_embeddings.data.shards.writer import ShardWriter
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.files.hashes import sha256_of_file, sha256_of_files
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.whole import flush_to_disk, write_durable_json

DIGEST_BYTES = 16
NO_ROOM = "free space or name another folder"
NO_TOKENS = -1  # the id of a text of which the tokenizer leaves nothing


@dataclass
class PairSetWriter:
    """Appends rows to a pair set.

    Attributes:
        texts: writes the shards, of tokens of type `dtype`.
        query_prefix: put before every query.
        document_prefix: put before every positive and negative.
        skipped: number of rows that gave no pair, by reason.
        filtered: number of texts left out of their rows, by reason.
    """

    tokenizer: Tokenizer
    texts: ShardWriter
    dtype: np.dtype[Any]
    quarantine: BinaryIO
    query_prefix: str = ""
    document_prefix: str = ""
    arrays: Mapping[str, "array[Any]"] = field(
        default_factory=lambda: {
            name: array("q" if dtype is np.int64 else "f") for name, dtype in ARRAYS.items()
        }
    )
    skipped: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    last_skipped: Skipped | None = None
    _ids: dict[str, dict[bytes, int]] = field(init=False)
    """Text ids by prefix and text."""
    _empty: dict[str, list[int]] = field(init=False)
    """By prefix, the tokens that there are without a text."""

    def __post_init__(self) -> None:
        prefixes = {self.query_prefix, self.document_prefix}
        self._ids = {prefix: {} for prefix in prefixes}
        self._empty = {prefix: self.tokenizer.encode(prefix) for prefix in prefixes}

    @property
    def num_rows(self) -> int:
        """Rows so far."""
        return len(self.arrays["queries"])

    def add(self, rows: Iterable[PairRow | Skipped], file: str) -> None:
        """Append a batch of rows of a file, and the texts that are new in it."""
        rows = list(rows)
        self._add_texts([row for row in rows if isinstance(row, PairRow)], file)
        for row in rows:
            if isinstance(row, Skipped):
                self._skip(row)
            else:
                self._add_row(row, file)

    def finish(
        self, folder: Path, identity: Mapping[str, Any], files_read: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the arrays and, last, `dataset.json`, which makes the folder a pair set.

        Args:
            folder: of the pair set.
            identity: what the result depends on.
            files_read: name, number of rows, format and ignored keys of each file.
        """
        self._write_arrays(folder)
        flush_to_disk(self.quarantine)
        self.texts.finish((0, 0))
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {
            path.relative_to(folder).as_posix(): {
                "num_bytes": path.stat().st_size,
                "sha256": sha256_of_file(path),
            }
            for path in sorted(paths)
        }
        info = {
            "format": FORMAT,
            "version": VERSION,
            **identity,
            "num_rows": self.num_rows,
            "skipped": self.skipped,
            "filtered": self.filtered,
            "files_read": files_read,
            "files": files,
            "sha256": sha256_of_files(files),
        }
        write_durable_json(folder / DATASET_FILE, info, NO_ROOM)

    def _write_arrays(self, folder: Path) -> None:
        """Write the arrays; labels or scores that are all missing make an empty one."""
        for name in ("positive", "negative"):
            self.arrays[f"{name}_starts"].append(len(self.arrays[f"{name}s"]))
        arrays = {
            name: np.frombuffer(self.arrays[name], dtype=dtype) for name, dtype in ARRAYS.items()
        }
        true_negatives = without_positives(arrays)
        if num_left_out := len(arrays["negatives"]) - len(true_negatives["negatives"]):
            self.filtered[POSITIVE_AS_NEGATIVE] += num_left_out
        arrays |= true_negatives
        for name, dtype in ARRAYS.items():
            values = arrays[name]
            if dtype is np.float32 and np.isnan(values).all():
                values = values[:0]
            with (folder / f"{name}.npy").open("wb") as file:
                np.save(file, values, allow_pickle=False)
                flush_to_disk(file)

    def _add_texts(self, rows: Iterable[PairRow], file: str) -> None:
        """Tokenise the texts that were not seen before."""
        new: dict[tuple[str, bytes], Document] = {}
        for row in rows:
            for prefix, texts in self._texts_by_prefix(row):
                for text in texts:
                    digest = _digest(text)
                    if digest not in self._ids[prefix] and (prefix, digest) not in new:
                        new[prefix, digest] = Document(f"{file}:{row.line}", prefix + text)
        texts = [document.text for document in new.values()]
        encoded = encode_texts(self.tokenizer, texts, self.dtype)
        for ((prefix, digest), document), tokens in zip(new.items(), encoded, strict=True):
            self._ids[prefix][digest] = NO_TOKENS
            if tokens.tolist() != self._empty[prefix]:
                self._add_text(prefix, digest, document, tokens)

    def _texts_by_prefix(self, row: PairRow) -> tuple[tuple[str, Sequence[str]], ...]:
        """The query with its prefix; the positives and negatives with theirs."""
        documents = (*row.positives, *row.negatives)
        return (self.query_prefix, (row.query,)), (self.document_prefix, documents)

    def _add_text(self, prefix: str, digest: bytes, document: Document, tokens: np.ndarray) -> None:
        """Append a text under the next id."""
        text_id = self.texts.progress.counts.num_documents
        seen = [ids[digest] for ids in self._ids.values() if digest in ids]
        self.arrays["originals"].append(min([id_ for id_ in seen if id_ >= 0], default=text_id))
        self._ids[prefix][digest] = text_id
        self.texts.add_document(document, tokens, (0, 0))

    def _add_row(self, row: PairRow, file: str) -> None:
        """Append the ids of a row's texts, unless nothing is left of its query or positives."""
        query = self._ids[self.query_prefix][_digest(row.query)]
        positives = self._with_tokens(row.positives, row.positive_scores)
        negatives = self._with_tokens(row.negatives, row.negative_scores)
        if query == NO_TOKENS or not positives:
            reason = NO_QUERY if query == NO_TOKENS else NO_POSITIVE
            self._skip(Skipped(file, row.line, reason))
            return
        self.arrays["queries"].append(query)
        self.arrays["lines"].append(row.line)
        self.arrays["labels"].append(np.nan if row.label is None else row.label)
        for name, scores in (("positive", positives), ("negative", negatives)):
            self.arrays[f"{name}_starts"].append(len(self.arrays[f"{name}s"]))
            self.arrays[f"{name}s"].extend(scores)
            self.arrays[f"{name}_scores"].extend(scores.values())

    def _with_tokens(self, texts: Sequence[str], scores: Sequence[float]) -> dict[int, float]:
        """Scores by text id, of the texts that have tokens."""
        ids = self._ids[self.document_prefix]
        found = {ids[_digest(text)]: score for text, score in zip(texts, scores, strict=True)}
        if found.pop(NO_TOKENS, None) is not None:
            self.filtered[EMPTY_TEXT] += 1
        return found

    def _skip(self, skipped: Skipped) -> None:
        """Count a row that gave no pair, and say in the quarantine where it is."""
        self.skipped[skipped.reason] += 1
        self.last_skipped = skipped
        self.quarantine.write(json_line(skipped._asdict()))


def without_positives(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of the negatives, less those that any row of the same query has as a positive."""
    originals = arrays["originals"]

    def judged(kind: str) -> NDArray[Any]:
        """One integer for each query and document of this kind, whatever their prefixes."""
        queries = np.repeat(arrays["queries"], np.diff(arrays[f"{kind}_starts"]))
        pairs: NDArray[Any] = originals[queries] * len(originals) + originals[arrays[f"{kind}s"]]
        return pairs

    is_kept = ~np.isin(judged("negative"), judged("positive"))
    num_kept_before = np.concatenate([[0], np.cumsum(is_kept)])
    return {
        "negatives": arrays["negatives"][is_kept],
        "negative_scores": arrays["negative_scores"][is_kept],
        "negative_starts": num_kept_before[arrays["negative_starts"]],
    }


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
