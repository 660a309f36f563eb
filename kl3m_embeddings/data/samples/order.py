"""Which sample comes when: a pure function of the seed and the sample's number in the run.

1. Sample numbers run through periods of 16,384 places. Every dataset has its share of the places,
   in an order that the seed and the period's number choose: proportions are exact over a period.
2. The number of places that a dataset had before is its cursor: no gaps, no repeats.
3. The cursor runs through epochs of the dataset, each in a new order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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

    def locate(self, first: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Datasets and sample indices, int64 of shape (count), of samples `first` and on."""
        datasets = np.empty(count, dtype=np.int64)
        cursors = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            period, place = divmod(first + done, PERIOD)
            chunk = slice(place, min(PERIOD, place + count - done))
            period_datasets, period_cursors = _period(self.seed, self.weights, period)
            size = chunk.stop - chunk.start
            datasets[done : done + size] = period_datasets[chunk]
            cursors[done : done + size] = period_cursors[chunk]
            done += size
        return datasets, self._shuffled(datasets, cursors)

    def _shuffled(
        self, datasets: NDArray[np.int64], cursors: NDArray[np.int64]
    ) -> NDArray[np.int64]:
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
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dataset and cursor of every place of a period, int64 of shape (PERIOD)."""
    shares = period_shares(weights)
    places = permute(np.arange(PERIOD), PERIOD, derive_key(seed, "mixture", period))
    datasets = np.repeat(np.arange(len(weights)), shares)[places]
    cursors = np.empty(PERIOD, dtype=np.int64)
    for dataset, share in enumerate(shares.tolist()):
        cursors[datasets == dataset] = np.arange(period * share, (period + 1) * share)
    return datasets, cursors


def period_shares(weights: tuple[float, ...]) -> NDArray[np.int64]:
    """Places of each dataset in a period: largest remainders, and at least one each."""
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * (PERIOD - len(weights))
    shares = np.floor(exact).astype(np.int64)
    missing = PERIOD - len(weights) - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return shares + 1
