"""Rows that hold several short texts, so that little of a batch is padding.

Windows are sorted into rows once, when a run starts: from the longest to the shortest, each goes
where the least room is left that still suffices (best fit). What is packed is the histogram of
lengths, not window by window: lengths are few, so that millions of windows are packed as fast as
thousands. Which windows of a length come together is then drawn by the seed.

With room for 8, sizes 5, 3, 3 and 2: 5 opens a row with room for 3; a 3 fills it; the other 3 opens
a row with room for 5; 2 goes there. The patterns are (5, 3) and (3, 2), once each.

Krell et al. 2021, Efficient Sequence Packing without Cross-contamination,
https://arxiv.org/abs/2107.02027
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from kl3m_embeddings.data.counter_random import derive_key, permute
from kl3m_embeddings.data.samples.corpus import Corpus, Spans, WindowIndex
from kl3m_embeddings.data.samples.order import SampleOrder

Pattern = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Some rows, and the windows in each."""

    datasets: Int64[np.ndarray, " rows"]
    """The dataset of the corpus that each is of."""
    spans: Spans
    """The windows of all rows, one row after another."""
    row_of: Int64[np.ndarray, " windows"]
    """The row of each window."""


@dataclass(frozen=True, kw_only=True)
class PackIndex:
    """Which windows are in each row of one dataset."""

    windows: Int64[np.ndarray, " windows"]
    """Indices of windows in the dataset, one row's after another's."""
    first: Int64[np.ndarray, " rows_and_1"]
    """Where each row's begin in `windows`."""

    @property
    def num_rows(self) -> int:
        """How many rows the dataset's windows make."""
        return len(self.first) - 1


@dataclass(frozen=True, kw_only=True)
class PackedCorpus:
    """A corpus as one endless, seeded stream of packed rows."""

    corpus: Corpus
    packs: Sequence[PackIndex]
    order: SampleOrder
    max_windows: int
    """No row has more."""

    @classmethod
    def build(cls, corpus: Corpus, row_length: int, num_special: int) -> "PackedCorpus":
        """Pack the windows of each dataset.

        Args:
            corpus: whose windows they are; datasets keep their shares of the windows read.
            row_length: tokens of a row.
            num_special: tokens that each window takes beside its own.
        """
        seed, packs = corpus.order.seed, []
        for name, index in zip(corpus.names, corpus.indices, strict=True):
            sizes = window_lengths(index) + num_special
            packs.append(pack(sizes, row_length, derive_key(seed, "pack", name)))
        # Rows of short windows hold more of them, so that a dataset of such needs fewer rows.
        weights = tuple(
            weight * one.num_rows / index.num_windows
            for weight, one, index in zip(corpus.order.weights, packs, corpus.indices, strict=True)
        )
        return cls(
            corpus=corpus,
            packs=packs,
            order=SampleOrder(seed=seed, sizes=[one.num_rows for one in packs], weights=weights),
            max_windows=max(int(np.diff(one.first).max()) for one in packs),
        )

    def rows(self, first_sample: int, count: int) -> PackedRows:
        """Rows `first_sample` and on: a pure function of the seed and the indices."""
        datasets, rows = self.order.locate(first_sample, count)
        members = [
            self.packs[dataset].windows[slice(*self.packs[dataset].first[row : row + 2])]
            for dataset, row in zip(datasets, rows, strict=True)
        ]
        row_of = np.repeat(np.arange(count), [len(one) for one in members])
        return PackedRows(
            datasets=datasets,
            spans=self.corpus.located(datasets[row_of], np.concatenate(members)),
            row_of=row_of,
        )


def window_lengths(index: WindowIndex) -> Int64[np.ndarray, " windows"]:
    """Tokens of each window of a dataset."""
    lengths = np.minimum(np.diff(index.shards.document_starts), index.window)
    return np.repeat(lengths, np.diff(index.first_windows))


def pack(sizes: Int64[np.ndarray, " windows"], capacity: int, key: int) -> PackIndex:
    """Rows of windows whose sizes sum up to at most `capacity`.

    Windows lie sorted by size, those of a size in random order (a stable sort of a permutation);
    each pattern takes the next ones of its sizes.
    """
    histogram = np.bincount(sizes, minlength=capacity + 1)
    drawn = permute(np.arange(len(sizes)), len(sizes), key)
    by_size = drawn[np.argsort(sizes[drawn], kind="stable")]
    next_of_size = np.concatenate([[0], np.cumsum(histogram)])
    rows, lengths = [], []
    for count, pattern in patterns(histogram, capacity):
        members = np.empty((count, len(pattern)), dtype=np.int64)  # rows x windows of a row
        for column, size in enumerate(pattern):
            start = next_of_size[size]
            members[:, column] = by_size[start : start + count]
            next_of_size[size] += count
        rows.append(members.ravel())
        lengths.append(np.full(count, len(pattern)))
    first = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return PackIndex(windows=np.concatenate(rows), first=first)


def patterns(
    histogram: Int64[np.ndarray, " sizes"], capacity: int
) -> Iterator[tuple[int, Pattern]]:
    """So many rows of windows of these sizes, until every window of the histogram has its row."""
    rows = OpenRows()
    for size in range(capacity, 0, -1):
        left = int(histogram[size])
        while left and (best := rows.take(size, left)):
            room, count, pattern = best
            rows.put(room - size, count, (*pattern, size))
            left -= count
        most = capacity // size  # new rows hold as many as fit
        rows.put(capacity - most * size, left // most, (size,) * most)
        if rest := left % most:
            rows.put(capacity - rest * size, 1, (size,) * rest)
    for groups in rows.groups.values():
        yield from groups


class OpenRows:
    """Rows by the room that is left in them."""

    def __init__(self) -> None:
        self.groups: dict[int, list[tuple[int, Pattern]]] = {}
        self.rooms: list[int] = []
        """The keys of `groups`, ascending."""

    def put(self, room: int, count: int, pattern: Pattern) -> None:
        """Add so many rows of a pattern."""
        if not count:
            return
        if room not in self.groups:
            self.groups[room] = []
            insort(self.rooms, room)
        self.groups[room].append((count, pattern))

    def take(self, size: int, most: int) -> tuple[int, int, Pattern] | None:
        """At most so many rows of one pattern, with the least room for `size`; None: no room."""
        index = bisect_left(self.rooms, size)
        if index == len(self.rooms):
            return None
        room = self.rooms[index]
        count, pattern = self.groups[room].pop()
        if not self.groups[room]:
            del self.groups[room], self.rooms[index]
        taken = min(most, count)
        self.put(room, count - taken, pattern)
        return room, taken, pattern
