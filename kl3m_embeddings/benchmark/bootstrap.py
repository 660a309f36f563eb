"""How sure a score is: its bootstrap interval, and that of the difference between two models.

A task's items (queries, pairs, texts) are drawn anew with replacement, NUM_SAMPLES times, and the
score is taken each time; the middle 95% of these are its interval. Two models are compared on the
same drawings, so that what makes an item hard for both cancels out.

Efron 1979, https://doi.org/10.1214/aos/1176344552; for retrieval, Sakai 2006,
https://doi.org/10.1145/1148170.1148261.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from kl3m_embeddings.benchmark.items import STATISTICS, Items

NUM_SAMPLES = 1000
LEVEL = 0.95
NUMBERS_AT_ONCE = 2**23


class Interval(NamedTuple):
    """The middle 95%."""

    low: float
    high: float


def resampled(items: Items, seed: int = 0) -> Float[np.ndarray, " samples"]:
    """The score of each drawing; drawings depend on the number of items and the seed alone."""
    size = len(items.values)
    generator = np.random.Generator(np.random.Philox(key=[seed, size]))
    if items.statistic == "mean":
        # How often each item is drawn is all that a mean asks for.
        shares, block = np.full(size, 1 / size), max(1, NUMBERS_AT_ONCE // size)
        blocks = [
            generator.multinomial(size, shares, size=min(block, NUM_SAMPLES - start)) @ items.values
            for start in range(0, NUM_SAMPLES, block)
        ]
        return np.concatenate(blocks) / size
    statistic = STATISTICS[items.statistic]
    scores = np.empty(NUM_SAMPLES)
    for sample in range(NUM_SAMPLES):
        rows = generator.integers(size, size=size)
        scores[sample] = statistic(items.values[rows], items.answers[rows])
    return scores


def interval(samples: Float[np.ndarray, " samples"]) -> Interval | None:
    """The middle 95% of what was drawn; None where too few drawings had a score at all."""
    known = samples[np.isfinite(samples)]
    if len(known) < len(samples) / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def comparable(first: Items, second: Items) -> bool:
    """Whether two models were asked the same items."""
    return (
        first.statistic == second.statistic
        and len(first.values) == len(second.values)
        and np.array_equal(first.answers, second.answers)
    )
