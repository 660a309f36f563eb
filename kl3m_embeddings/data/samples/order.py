"""Which sample comes when: a pure function of the seed and the sample's index in the run.

1. Sample indices run through periods of 16,384 positions. Every dataset has its share of them, in
   an order that the seed and the period's index choose: proportions are exact over a period.
2. The number of positions that a dataset had before is its cursor: no gaps, no repeats. In closed
   form it is the period's index times the share, plus how many of the dataset's positions come
   before this one within the period. So sample 10**9 is found as fast as sample 0.
3. The cursor runs through epochs of the dataset, each in a new order: cursor c is element c mod
   size of the permutation of epoch c // size.

With periods of 4 positions, weights 3 to 1, and the order a b a a in period 2, its samples (8 to
11) have the cursors 6, 2, 7, 8: a had 3 and b 1 in each of the two periods before. If a has 5
samples, they are elements 1, 2 and 3 of the permutation of its epoch 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from kl3m_embeddings.data.counter_random import derive_key, permute

PERIOD = 1 << 14


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """The order of the samples of several datasets."""

    seed: int
    sizes: Sequence[int]
    """Number of samples of each dataset; at least 1."""
    weights: tuple[float, ...]
    """Relative share of each dataset; above 0."""

    def locate(
        self, first: int, count: int
    ) -> tuple[Int64[np.ndarray, " {count}"], Int64[np.ndarray, " {count}"]]:
        """Datasets, and indices of samples in them, of samples `first` and on."""
        datasets = np.empty(count, dtype=np.int64)
        cursors = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            period, position = divmod(first + done, PERIOD)
            chunk = slice(position, min(PERIOD, position + count - done))
            period_datasets, period_cursors = _period(self.seed, self.weights, period)
            size = chunk.stop - chunk.start
            datasets[done : done + size] = period_datasets[chunk]
            cursors[done : done + size] = period_cursors[chunk]
            done += size
        return datasets, self._shuffled(datasets, cursors)

    def _shuffled(
        self, datasets: Int64[np.ndarray, " samples"], cursors: Int64[np.ndarray, " samples"]
    ) -> Int64[np.ndarray, " samples"]:
        """The sample at each cursor: every epoch of every dataset has its own permutation."""
        samples = np.empty_like(cursors)
        epochs = cursors // np.asarray(self.sizes)[datasets]
        for dataset, epoch in set(zip(datasets.tolist(), epochs.tolist(), strict=True)):
            chosen = (datasets == dataset) & (epochs == epoch)
            size = self.sizes[dataset]
            key = derive_key(self.seed, "shuffle", dataset, epoch)
            samples[chosen] = permute(cursors[chosen] % size, size, key)
        return samples


@lru_cache(maxsize=4)
def _period(
    seed: int, weights: tuple[float, ...], period: int
) -> tuple[Int64[np.ndarray, " period"], Int64[np.ndarray, " period"]]:
    """Dataset and cursor of every position of a period."""
    shares = period_shares(weights)
    shuffled = permute(np.arange(PERIOD), PERIOD, derive_key(seed, "mixture", period))
    datasets = np.repeat(np.arange(len(weights)), shares)[shuffled]
    cursors = np.empty(PERIOD, dtype=np.int64)
    for dataset, share in enumerate(shares.tolist()):
        cursors[datasets == dataset] = np.arange(period * share, (period + 1) * share)
    return datasets, cursors


def period_shares(weights: tuple[float, ...]) -> Int64[np.ndarray, " datasets"]:
    """Positions of each dataset in a period, PERIOD in all: at least one each.

    One each is dealt first. The others go by weight, rounded down, and what rounding has left goes
    to those that lost most by it (largest remainders).
    """
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * (PERIOD - len(weights))
    shares = np.floor(exact).astype(np.int64)
    missing = PERIOD - len(weights) - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return shares + 1
