"""Which pairs come when: a pure function of the seed and the batch's index in the run.

1. Batches run through periods of 16,384 positions. Every pair set has its share of them, spread
   evenly and at random: at any time, each has had its share but for a batch or two. A batch has
   rows of one set only, so that the negatives in it are as hard as the set has them.
2. The number of positions that a set had before is the batch's index in the set's own stream: the
   period's index times the share, plus those before it in the period, as in `samples/order.py`.
3. The stream runs through epochs, each with a plan of its own (see `plan.py`). A plan is made
   once and kept; it takes seconds for a million rows, and a batch microseconds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float32, Int64

from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.pair_sets.plan import EpochPlan, PlanOptions, epoch_of, plan_epoch
from kl3m_embeddings.data.samples.order import PERIOD, period_shares
from kl3m_embeddings.errors import ConfigError, DataError

WINDOW_BATCHES = 64


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Rows of one pair set, or a rank's part of them, and the texts to be used of each.

    Attributes:
        set_index: of the pair set, among those of the order.
        rows: of the pair set.
        queries: text ids.
        positives: text ids.
        negatives: text ids.
        labels: how alike query and positive are; None in a set without labels.
        positive_scores: a teacher's, NaN where it gave none; None in a set without any.
        negative_scores: the same.
        num_clashes: rows of the whole batch that have a text of a row before them.
    """

    set_index: int
    rows: Int64[np.ndarray, " rows"]
    queries: Int64[np.ndarray, " rows"]
    positives: Int64[np.ndarray, " rows"]
    negatives: Int64[np.ndarray, "rows negatives"]
    labels: Float32[np.ndarray, " rows"] | None
    positive_scores: Float32[np.ndarray, " rows"] | None
    negative_scores: Float32[np.ndarray, "rows negatives"] | None
    num_clashes: int


@dataclass(frozen=True, kw_only=True)
class PairOrder:
    """The order of the rows of several pair sets; see `build`."""

    sets: Sequence[PairSet]
    weights: tuple[float, ...]
    usable: Sequence[Int64[np.ndarray, " _"]]
    """Of each set, the rows that have enough negatives."""
    seed: int
    options: PlanOptions

    @classmethod
    def build(
        cls,
        sets: Sequence[PairSet],
        weights: Sequence[float] | None = None,
        *,
        seed: int,
        batch_size: int,
        num_negatives: int = 0,
        max_length: int,
        window_batches: int = WINDOW_BATCHES,
    ) -> "PairOrder":
        """Order the rows that have enough negatives.

        Args:
            sets: at least one.
            weights: relative share of the batches; None: by number of rows.
            seed: of all choices.
            batch_size: rows of a batch, over all devices.
            num_negatives: of each row; rows that have fewer are left out, see `left_out`.
            max_length: tokens of a text that count for its length.
            window_batches: batches that are sorted by length together; 1: no sorting.

        Raises:
            ConfigError: the weights do not fit the sets.
            DataError: a set has fewer usable rows than a batch.
        """
        usable = [np.flatnonzero(np.diff(one.negative_starts) >= num_negatives) for one in sets]
        for pairs, rows in zip(sets, usable, strict=True):
            if len(rows) < batch_size:
                raise DataError(_too_few(pairs, len(rows), batch_size, num_negatives))
        shares = tuple(map(float, map(len, usable) if weights is None else weights))
        if len(shares) != len(sets) or not all(0 < share < math.inf for share in shares):
            raise ConfigError(f"weights {weights}: give each of the {len(sets)} sets one above 0")
        options = PlanOptions(batch_size, num_negatives, max_length, window_batches)
        return cls(sets=sets, weights=shares, usable=usable, seed=seed, options=options)

    def left_out(self) -> list[str]:
        """A line on each set that has rows with too few negatives, naming the first of them."""
        num_negatives = self.options.num_negatives
        return [
            f"{pairs.name}: {pairs.num_rows - len(rows):,} of {pairs.num_rows:,} rows are left "
            f"out: they have fewer than {num_negatives} negatives "
            f"(first {_first_short(pairs, num_negatives)})"
            for pairs, rows in zip(self.sets, self.usable, strict=True)
            if len(rows) < pairs.num_rows
        ]

    def without_negatives(self) -> list[str]:
        """A line on each set in whose first epoch there are batches with nothing to tell apart.

        All rows of such a batch have one text in common, so that none of the others' positives is
        a negative. Where rows have labels or negatives of their own, they are learnt from.
        """
        size, lines = self.options.batch_size, []
        for source, (pairs, rows) in enumerate(zip(self.sets, self.usable, strict=True)):
            texts = pairs.originals[np.concatenate([pairs.queries[rows], pairs.positives])]
            if self.options.num_negatives or pairs.has_labels or np.bincount(texts).max() < size:
                continue
            plan = self.plan(source, 0)
            clashing = np.flatnonzero(plan.num_clashes == size - 1)
            num = sum(have_one_text(pairs, plan.rows[index]) for index in clashing)
            if num:
                lines.append(
                    f"{pairs.name}: in {num:,} of the {len(plan.rows):,} batches of an epoch all "
                    "rows have a text in common, and none a negative: nothing is learnt from them; "
                    "join rows of one query, raise batch_size, or set num_negatives"
                )
        return lines

    def batch(self, index: int, part: slice = slice(None)) -> PairBatch:
        """Batch `index` of the run, or the rows of it that are a rank's part."""
        period, position = divmod(index, PERIOD)
        sources, stream_indices = _period(self.seed, self.weights, period)
        source = int(sources[position])
        num_rows = len(self.usable[source])
        stream_index = int(stream_indices[position])
        epoch, plan_index = epoch_of(stream_index, num_rows, self.options.batch_size)
        plan = self.plan(source, epoch)
        rows, positives = plan.rows[plan_index, part], plan.positives[plan_index, part]
        negatives = plan.negatives[plan_index, part]
        pairs = self.sets[source]
        return PairBatch(
            set_index=source,
            rows=rows,
            queries=pairs.queries[rows],
            positives=pairs.positives[positives],
            negatives=pairs.negatives[negatives],
            labels=_taken(pairs.labels, rows),
            positive_scores=_taken(pairs.positive_scores, positives),
            negative_scores=_taken(pairs.negative_scores, negatives),
            num_clashes=int(plan.num_clashes[plan_index]),
        )

    @cached_property
    def plan(self) -> Callable[[int, int], EpochPlan]:
        """`plan(source, epoch)`: the plan of a set's epoch; the last two of each are kept."""

        @lru_cache(maxsize=2 * len(self.sets))
        def plan(source: int, epoch: int) -> EpochPlan:
            key = derive_key(self.seed, "pairs", source)
            return plan_epoch(self.sets[source], self.usable[source], epoch, self.options, key)

        return plan


@lru_cache(maxsize=4)
def _period(
    seed: int, weights: tuple[float, ...], period: int
) -> tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]:
    """Set, and index in the set's stream, of every batch of a period.

    A set with a share of n has its batch i at a random time in the i-th n-th of the period,
    (i + random) / n, and the batches of all sets come in the order of their times.
    """
    shares = period_shares(weights)
    sources = np.repeat(np.arange(len(weights)), shares)
    indices = np.concatenate([np.arange(share) for share in shares])
    jitter = random_uniform(derive_key(seed, "pair sets", period), 0, PERIOD, 1)[:, 0]
    order = np.argsort((indices + jitter) / shares[sources], kind="stable")
    sources = sources[order]
    return sources, period * shares[sources] + indices[order]


def have_one_text(pairs: PairSet, rows: Int64[np.ndarray, " rows"]) -> bool:
    """Whether one text is a query or positive of every one of the rows."""
    common: set[int] | None = None
    for row in rows.tolist():
        positives = pairs.positives[slice(*pairs.positive_starts[row : row + 2])]
        ids = pairs.originals[[pairs.queries[row], *positives]]
        common = set(ids.tolist()) if common is None else common & set(ids.tolist())
    return bool(common)


def _taken(
    values: Float32[np.ndarray, " _"] | None, indices: Int64[np.ndarray, "..."]
) -> Float32[np.ndarray, "..."] | None:
    """The values at these indices; None stays None."""
    return None if values is None else values[indices]


def _first_short(pairs: PairSet, num_negatives: int) -> str:
    """File and line of the first row that has fewer negatives."""
    return pairs.place(int(np.argmax(np.diff(pairs.negative_starts) < num_negatives)))


def _too_few(pairs: PairSet, num_usable: int, batch_size: int, num_negatives: int) -> str:
    """The error of a set that does not fill a batch, and which setting mends it."""
    reason, remedy = "", "batch_size"
    if num_usable < pairs.num_rows:
        place = _first_short(pairs, num_negatives)
        reason = f" with {num_negatives} negatives of {pairs.num_rows:,} (too few: {place})"
        remedy = "num_negatives or batch_size"
    return (
        f"{pairs.path}: {num_usable:,} rows{reason}, a batch takes {batch_size:,}; lower {remedy}"
    )
