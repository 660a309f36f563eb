"""Duplicate documents: exact ones by hash, near ones by MinHash.

Exact: the text's 128-bit BLAKE2b hash goes into a table of 16 bytes an entry, kept at most 3/4
full (a Python set takes more than 80 bytes for each); two different texts among a billion collide
with a probability of 1e-21.

Near: the text's word 5-grams are summarised by 128 MinHash values; documents that share a band of
values are compared, and are near-duplicates from the given share of equal values on, which is an
estimate of the share of 5-grams that both have among those that either has
(Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900; bands as in datasketch).
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from kl3m_embeddings.data.readers.documents import Record
from kl3m_embeddings.data.readers.records import Skipped

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near-duplicate"

DIGEST_BYTES = 16
EMPTY_SLOT = bytes(DIGEST_BYTES)
NUM_PERMUTATIONS = 128
SHINGLE_WORDS = 5
SIGNATURE_DTYPE = np.dtype("<u4")
SCHEME = "affine32"  # datasketch's permutations of 32-bit hashes


class MarkedRecord(NamedTuple):
    """A row, whether its text came before, and what to remember it by if it did not."""

    record: Record
    is_duplicate: bool
    fingerprints: tuple[bytes, ...]


class ExactDuplicates:
    """A set of 16-byte digests in one open-addressing table."""

    fingerprint_bytes = DIGEST_BYTES

    def __init__(self) -> None:
        self._num_slots = 1 << 10
        self._table = bytearray(self._num_slots * DIGEST_BYTES)
        self._num_digests = 0

    def fingerprint(self, text: str) -> bytes:
        """The text's digest."""
        return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()

    def add(self, fingerprint: bytes) -> bool:
        """Remember a digest; True if it was known."""
        if 4 * self._num_digests >= 3 * self._num_slots:
            self._grow()
        is_new = self._insert(fingerprint)
        self._num_digests += is_new
        return not is_new

    def _insert(self, digest: bytes) -> bool:
        """Put a digest into the first free slot from its own on, unless it is there already."""
        slot = int.from_bytes(digest[:8]) % self._num_slots
        while True:
            start = slot * DIGEST_BYTES
            found = self._table[start : start + DIGEST_BYTES]
            if found == digest:
                return False
            if found == EMPTY_SLOT:
                self._table[start : start + DIGEST_BYTES] = digest
                return True
            slot = (slot + 1) % self._num_slots

    def _grow(self) -> None:
        """Double the table; a digest's slot depends on its size, so each is put in anew."""
        digests = self._table
        self._num_slots *= 2
        self._table = bytearray(self._num_slots * DIGEST_BYTES)
        for start in range(0, len(digests), DIGEST_BYTES):
            digest = bytes(digests[start : start + DIGEST_BYTES])
            if digest != EMPTY_SLOT:
                self._insert(digest)


class NearDuplicates:
    """MinHash signatures in locality-sensitive bands; memory grows with the documents."""

    fingerprint_bytes = NUM_PERMUTATIONS * SIGNATURE_DTYPE.itemsize

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._bands = MinHashLSH(threshold=threshold, num_perm=NUM_PERMUTATIONS)
        self._signatures: list[np.ndarray] = []

    def fingerprint(self, text: str) -> bytes:
        """The text's MinHash values."""
        from datasketch import MinHash

        words = text.split()
        last = max(len(words) - SHINGLE_WORDS, 0)
        shingles = {" ".join(words[i : i + SHINGLE_WORDS]) for i in range(last + 1)}
        signature = MinHash(num_perm=NUM_PERMUTATIONS, scheme=SCHEME)
        signature.update_batch([shingle.encode() for shingle in shingles])
        return bytes(signature.hashvalues.astype(SIGNATURE_DTYPE))

    def add(self, fingerprint: bytes) -> bool:
        """Remember a document, unless it is much like one that is remembered: then True."""
        from datasketch import MinHash

        values = np.frombuffer(fingerprint, dtype=SIGNATURE_DTYPE)
        signature = MinHash(hashvalues=values, scheme=SCHEME)
        for index in self._bands.query(signature):
            if np.mean(self._signatures[index] == values) >= self._threshold:
                return True
        self._bands.insert(len(self._signatures), signature, check_duplication=False)
        self._signatures.append(values)
        return False


def mark_duplicates(
    records: Iterable[Record],
    exact: ExactDuplicates,
    near: NearDuplicates | None,
    *,
    drop_exact: bool,
) -> Iterator[MarkedRecord]:
    """Find duplicates among the rows; those to be dropped become `Skipped`.

    Args:
        records: as read.
        exact: always asked: exact duplicates are counted in any case.
        near: if given, near-duplicates are dropped, and the exact ones with them.
        drop_exact: drop exact duplicates.
    """
    for record in records:
        if isinstance(record.item, Skipped):
            yield MarkedRecord(record, False, ())
            continue
        text = record.item.text
        fingerprint = exact.fingerprint(text)
        if exact.add(fingerprint):
            dropped = drop_exact or near is not None
            yield MarkedRecord(_dropped(record, DUPLICATE) if dropped else record, True, ())
        elif near is None:
            yield MarkedRecord(record, False, (fingerprint,))
        else:
            near_fingerprint = near.fingerprint(text)
            if near.add(near_fingerprint):
                yield MarkedRecord(_dropped(record, NEAR_DUPLICATE), False, (fingerprint,))
            else:
                yield MarkedRecord(record, False, (fingerprint, near_fingerprint))


def _dropped(record: Record, reason: str) -> Record:
    """The row without its document, and why."""
    return record._replace(item=Skipped("", record.row + 1, reason))
