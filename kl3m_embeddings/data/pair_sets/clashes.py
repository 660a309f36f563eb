"""Keeps a text from being twice in a batch: rows that clash are swapped into other batches.

In a batch, the other rows' positives serve as negatives. A text that two of its rows have would be
pushed away from where it belongs. So, given rows in batches:

1. A row clashes if it has a text of a row before it in its batch.
2. It is swapped with a row of a near batch, if neither then clashes: near, because batches next to
   each other have texts of similar lengths.
3. Those that found no batch try again, further away, a limited number of times.

With two rows a batch and the rows' texts [ab | ca] [de | fg] [ah | ij], nothing clashes but row 1
(ca) with row 0, by text a. Row 2 (de) is tried: batch 0 would have ab and de, batch 1 ca and fg, no
text is twice, and the two are swapped. Row 4 would not do: it has a itself.

A position counts through the batches, row after row: position p is in batch p // batch size.

Every row stays in the plan, so what the data make impossible (a query that more rows have than
there are batches) remains, and is counted. Texts that only one row has are never looked at.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.data.counter_random import derive_key, random_uint32

MAX_TRIES = 16  # of a row in a round
MAX_ROUND_TRIES = 500_000
MAX_TOTAL_TRIES = 2_000_000  # some seconds
MAX_ROUNDS = 32
FIRST_REACH = 2  # batches; doubles every round

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SharedTexts:
    """The texts that several rows have, numbered anew from 0.

    Attributes:
        rows: ascending; together with `texts`, of the same length, the pairs of a row and a text
            that it has.
        starts: shape (rows + 1): where each row's pairs start, and the end of the last one's.
    """

    rows: Ints
    texts: Ints
    num_texts: int
    starts: Ints

    @classmethod
    def build(cls, rows: Ints, texts: Ints, num_rows: int) -> "SharedTexts":
        """Find them among all pairs of a row and a text that it has."""
        counts = np.bincount(texts)
        is_shared = counts[texts] > 1
        shared_ids = np.cumsum(counts > 1) - 1  # of a text that is shared, its new id
        num_texts = int(shared_ids[-1]) + 1
        # A pair as one integer, row * num_texts + text: sorting sorts by row, and by text within.
        pairs = _distinct(rows[is_shared] * num_texts + shared_ids[texts[is_shared]])
        rows, texts = np.divmod(pairs, max(num_texts, 1))
        starts = np.searchsorted(rows, np.arange(num_rows + 1))
        return cls(rows, texts, num_texts, starts)

    def of(self, row: int) -> list[int]:
        """The shared texts that a row has."""
        texts: list[int] = self.texts[self.starts[row] : self.starts[row + 1]].tolist()
        return texts


def separate(batches: Ints, shared: SharedTexts, key: int) -> Ints:
    """The rows of `batches`, of shape (batches, batch size), without clashes as far as can be.

    Args:
        batches: each row index below `batches.size` once.
        shared: the rows' texts.
        key: of the random choices.
    """
    waiting = clashing_places(batches, shared)
    swaps = _Swaps(batches, shared)
    reach = FIRST_REACH
    for round_index in range(MAX_ROUNDS):
        if len(waiting) == 0 or swaps.num_tries > MAX_TOTAL_TRIES:
            break
        partners = _partners(
            waiting, batches.shape, min(reach, len(batches)), derive_key(key, round_index)
        )
        pairs = zip(waiting.tolist(), partners.tolist(), strict=True)
        waiting = np.array([at for at, tries in pairs if not swaps.mend(at, tries)])
        reach *= 2
    return np.array(swaps.rows).reshape(batches.shape)


def _partners(positions: Ints, shape: tuple[int, ...], reach: int, key: int) -> Ints:
    """For each position some others to try a swap with, at most `reach` batches away.

    Shape (positions, tries). Batches lie in a ring: behind the last one is the first.
    """
    num_batches, batch_size = shape
    num_tries = max(1, min(MAX_TRIES, MAX_ROUND_TRIES // len(positions)))
    words = random_uint32(key, 0, len(positions), 2 * num_tries).astype(np.int64)
    distances = words[:, :num_tries] % (2 * reach + 1) - reach
    batches = (positions[:, None] // batch_size + distances) % num_batches
    return batches * batch_size + words[:, num_tries:] % batch_size


def clashing_places(batches: Ints, shared: SharedTexts) -> Ints:
    """Positions in `batches` whose row has a text of a row before it in its batch.

    Sorted by text, then by position, the holders of a text stand together: two neighbours of one
    text and one batch are a clash, and the second of them is the one to go.
    """
    pairs = np.sort(shared.texts * batches.size + _positions_of(batches)[shared.rows])
    texts, positions = np.divmod(pairs, batches.size)
    batch_of = positions // batches.shape[1]
    repeats = (texts[1:] == texts[:-1]) & (batch_of[1:] == batch_of[:-1])
    return _distinct(positions[1:][repeats])


def _positions_of(batches: Ints) -> Ints:
    """The position of each row: the inverse of the permutation that `batches` is."""
    positions = np.empty(batches.size, dtype=np.int64)
    positions[batches.reshape(-1)] = np.arange(batches.size)
    return positions


def _distinct(values: Ints) -> Ints:
    """The distinct values, ascending; np.unique hashes large integers, which takes far longer."""
    values = np.sort(values)
    return values[np.diff(values, prepend=-1) > 0]


class _Swaps:
    """Rows in batches, and which shared texts are where."""

    def __init__(self, batches: Ints, shared: SharedTexts) -> None:
        self.rows: list[int] = batches.reshape(-1).tolist()
        self.num_tries = 0
        self._num_batches, self._batch_size = batches.shape
        self._shared = shared
        self._counts: dict[int, Counter[int]] = {}
        batch_of = _positions_of(batches)[shared.rows] // self._batch_size
        held = _distinct(shared.texts * self._num_batches + batch_of) // self._num_batches
        self._num_holding: list[int] = np.bincount(held).tolist()  # batches that have each text

    def mend(self, position: int, partners: Sequence[int]) -> bool:
        """Swap a row with a partner, if it clashes; False if it is to try again."""
        counts = self._counts_of(position // self._batch_size)
        clashing = [text for text in self._shared.of(self.rows[position]) if counts[text] > 1]
        if not clashing:  # the other one has gone
            return True
        if any(self._num_holding[text] == self._num_batches for text in clashing):
            return True  # there is no better batch
        return any(self._swap(position, partner) for partner in partners)

    def _swap(self, position: int, other: int) -> bool:
        """Swap two rows of different batches unless one of them would clash there."""
        self.num_tries += 1
        if position // self._batch_size == other // self._batch_size:
            return False
        both = position, other
        texts, other_texts = (self._shared.of(self.rows[at]) for at in both)
        counts, other_counts = (self._counts_of(at // self._batch_size) for at in both)
        # A text may come to a batch whose only holder of it is the row that leaves.
        if any(other_counts[text] > (text in other_texts) for text in texts) or any(
            counts[text] > (text in texts) for text in other_texts
        ):
            return False
        self._move(texts, counts, other_counts)
        self._move(other_texts, other_counts, counts)
        self.rows[position], self.rows[other] = self.rows[other], self.rows[position]
        return True

    def _move(self, texts: Sequence[int], source: Counter[int], target: Counter[int]) -> None:
        """Count texts in another batch."""
        for text in texts:
            source[text] -= 1
            target[text] += 1
            self._num_holding[text] += (target[text] == 1) - (source[text] == 0)

    def _counts_of(self, batch: int) -> Counter[int]:
        """How many rows of a batch have each text."""
        if batch not in self._counts:
            first = batch * self._batch_size
            rows = self.rows[first : first + self._batch_size]
            self._counts[batch] = Counter(text for row in rows for text in self._shared.of(row))
        return self._counts[batch]
