"""Keeps a text from being twice in a batch: rows that clash are swapped into other batches.

In a batch, the other rows' positives serve as negatives. A text that two of its rows have would be
pushed away from where it belongs. So, given rows in batches:

1. A row clashes if it has a text of a row before it in its batch.
2. It is swapped with a row of a near batch, if neither then clashes: near, because batches next to
   each other have texts of similar lengths.
3. Those that found no place try again, further away, a limited number of times.

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
        rows: ascending; together with `texts`, the pairs of a row and a text that it has.
        starts: where each row's pairs start, and the end of the last one's.
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
        numbers = np.cumsum(counts > 1) - 1
        num_texts = int(numbers[-1]) + 1
        pairs = _distinct(rows[is_shared] * num_texts + numbers[texts[is_shared]])
        rows, texts = np.divmod(pairs, max(num_texts, 1))
        starts = np.searchsorted(rows, np.arange(num_rows + 1))
        return cls(rows, texts, num_texts, starts)

    def of(self, row: int) -> list[int]:
        """A row's."""
        texts: list[int] = self.texts[self.starts[row] : self.starts[row + 1]].tolist()
        return texts


def separate(batches: Ints, shared: SharedTexts, key: int) -> Ints:
    """The rows of `batches`, of shape (batches, batch size), without clashes as far as can be.

    Args:
        batches: each row number below `batches.size` once.
        shared: the rows' texts.
        key: of the random choices.
    """
    waiting = clashing_places(batches, shared)
    swaps = _Swaps(batches, shared)
    reach = FIRST_REACH
    for number in range(MAX_ROUNDS):
        if len(waiting) == 0 or swaps.num_tries > MAX_TOTAL_TRIES:
            break
        partners = _partners(
            waiting, batches.shape, min(reach, len(batches)), derive_key(key, number)
        )
        pairs = zip(waiting.tolist(), partners.tolist(), strict=True)
        waiting = np.array([place for place, tries in pairs if not swaps.mend(place, tries)])
        reach *= 2
    return np.array(swaps.rows).reshape(batches.shape)


def _partners(places: Ints, shape: tuple[int, ...], reach: int, key: int) -> Ints:
    """For each place some others to try a swap with, at most `reach` batches away."""
    num_batches, batch_size = shape
    num_tries = max(1, min(MAX_TRIES, MAX_ROUND_TRIES // len(places)))
    words = random_uint32(key, 0, len(places), 2 * num_tries).astype(np.int64)
    distances = words[:, :num_tries] % (2 * reach + 1) - reach
    batches = (places[:, None] // batch_size + distances) % num_batches
    return batches * batch_size + words[:, num_tries:] % batch_size


def clashing_places(batches: Ints, shared: SharedTexts) -> Ints:
    """Places in `batches`, flattened, whose row has a text of a row before it in its batch."""
    pairs = np.sort(shared.texts * batches.size + _places_of(batches)[shared.rows])
    texts, places = np.divmod(pairs, batches.size)
    numbers = places // batches.shape[1]
    repeats = (texts[1:] == texts[:-1]) & (numbers[1:] == numbers[:-1])
    return _distinct(places[1:][repeats])


def _places_of(batches: Ints) -> Ints:
    """Where each row is."""
    places = np.empty(batches.size, dtype=np.int64)
    places[batches.reshape(-1)] = np.arange(batches.size)
    return places


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
        numbers = _places_of(batches)[shared.rows] // self._batch_size
        held = _distinct(shared.texts * self._num_batches + numbers) // self._num_batches
        self._num_holding: list[int] = np.bincount(held).tolist()  # batches that have each text

    def mend(self, place: int, partners: Sequence[int]) -> bool:
        """Swap the row at a place with a partner, if it clashes; False if it is to try again."""
        counts = self._counts_of(place // self._batch_size)
        clashing = [text for text in self._shared.of(self.rows[place]) if counts[text] > 1]
        if not clashing:  # the other one has gone
            return True
        if any(self._num_holding[text] == self._num_batches for text in clashing):
            return True  # there is no better place
        return any(self._swap(place, partner) for partner in partners)

    def _swap(self, place: int, other: int) -> bool:
        """Swap two rows of different batches unless one of them would clash there."""
        self.num_tries += 1
        if place // self._batch_size == other // self._batch_size:
            return False
        texts, other_texts = (self._shared.of(self.rows[one]) for one in (place, other))
        counts, other_counts = (self._counts_of(one // self._batch_size) for one in (place, other))
        if any(other_counts[text] > (text in other_texts) for text in texts) or any(
            counts[text] > (text in texts) for text in other_texts
        ):
            return False
        self._move(texts, counts, other_counts)
        self._move(other_texts, other_counts, counts)
        self.rows[place], self.rows[other] = self.rows[other], self.rows[place]
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
