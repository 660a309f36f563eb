"""The plan of an epoch: which rows are in which batch, and which of their texts are used.

1. The rows' stream is one permutation of all rows after another. An epoch's plan has the batches
   that start in its permutation; the last one is filled with the first rows of the next
   permutation, which that epoch's plan then leaves out. So no row is lost or repeated, and any
   epoch's plan is had without those before it. With 10 rows and batches of 4, the batches start at
   rows 0, 4, 8, 12, 16, 20 of the stream: epoch 0 has three of them, the last one with two rows of
   the permutation of epoch 1, whose plan has the two that start at 12 and 16.
2. Every row has one of its positives and some of its negatives chosen, without replacement, by its
   index and the permutation it comes from.
3. Within windows of many batches, rows are sorted by the length of their longest text and cut into
   batches: there is less padding.
4. Rows that share a text are put into different batches (see `clashes.py`).
5. The batches are shuffled: a row is as likely in one batch of the plan as in another.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt32
from numpy.typing import NDArray

from kl3m_embeddings.data.counter_random import derive_key, permute, random_uint32
from kl3m_embeddings.data.pair_sets.clashes import SharedTexts, clashing_places, separate
from kl3m_embeddings.data.pair_sets.pair_set import PairSet


@dataclass(frozen=True)
class PlanOptions:
    """What a plan depends on, besides the rows and the seed.

    Attributes:
        batch_size: rows of a batch, over all devices.
        num_negatives: of each row.
        max_length: tokens of a text that count for its length.
        window_batches: batches whose rows are sorted by length together; 1: no sorting.
    """

    batch_size: int
    num_negatives: int
    max_length: int
    window_batches: int


@dataclass(frozen=True)
class EpochPlan:
    """The batches of an epoch.

    Attributes:
        rows: of the pair set.
        positives: indices in the pair set's `positives` of the chosen ones.
        negatives: indices in the pair set's `negatives`.
        num_clashes: rows with a text of a row before them in their batch.
    """

    rows: Int64[np.ndarray, "batches batch_size"]
    positives: Int64[np.ndarray, "batches batch_size"]
    negatives: Int64[np.ndarray, "batches batch_size negatives"]
    num_clashes: Int64[np.ndarray, " batches"]


def epoch_of(batch: int, num_rows: int, batch_size: int) -> tuple[int, int]:
    """The epoch in whose plan a batch of a row stream is, and its index there."""
    epoch = batch * batch_size // num_rows  # of the batch's first row
    return epoch, batch - -(-epoch * num_rows // batch_size)  # less the batches of epochs before


def plan_epoch(
    pairs: PairSet, usable: Int64[np.ndarray, " _"], epoch: int, options: PlanOptions, key: int
) -> EpochPlan:
    """Make a plan.

    Args:
        pairs: the rows.
        usable: the rows to be used; at least a batch of them.
        epoch: counted from 0.
        options: see there.
        key: of the pair set's random choices.
    """
    size = options.batch_size
    # Rows of the stream: from the first batch that starts in this epoch to that of the next one.
    first, end = (-(-start * len(usable) // size) * size for start in (epoch, epoch + 1))
    epochs, positions = np.divmod(np.arange(first, end), len(usable))
    chosen = [
        _choose(pairs, usable, positions[epochs == origin], options, derive_key(key, origin))
        for origin in np.unique(epochs).tolist()  # this epoch, and perhaps the next
    ]
    rows, positives, negatives = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    lengths = _longest(pairs, rows, positives, negatives, options.max_length)
    shared = _shared_texts(pairs, rows, negatives)
    batches = _by_length(lengths, options).reshape(-1, size)
    batches = separate(batches, shared, derive_key(key, "swaps", epoch))
    indices = np.arange(len(batches))
    batches = batches[permute(indices, len(batches), derive_key(key, "batches", epoch))]
    clashes = clashing_places(batches, shared)
    return EpochPlan(
        rows=rows[batches],
        positives=positives[batches],
        negatives=negatives[batches],
        num_clashes=np.bincount(clashes // size, minlength=len(batches)),
    )


def _choose(
    pairs: PairSet, usable: np.ndarray, positions: np.ndarray, options: PlanOptions, key: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows at some positions of an epoch's permutation, and what is chosen of each.

    Shapes (rows), (rows) and (rows, negatives).
    """
    rows = usable[permute(positions, len(usable), key)]
    num_choices = 1 + options.num_negatives
    words = random_uint32(derive_key(key, "texts"), 0, pairs.num_rows, num_choices)[rows]
    starts, ends = pairs.positive_starts[rows], pairs.positive_starts[rows + 1]
    positives = starts + distinct_choices(words[:, :1], ends - starts)[:, 0]
    starts, ends = pairs.negative_starts[rows], pairs.negative_starts[rows + 1]
    negatives = starts[:, None] + distinct_choices(words[:, 1:], ends - starts)
    return rows, positives, negatives


def distinct_choices(
    words: UInt32[np.ndarray, "rows choices"], counts: Int64[np.ndarray, " rows"]
) -> Int64[np.ndarray, "rows choices"]:
    """For each row, different numbers below its count, all combinations equally likely.

    The k-th choice is a number below count - k, and counts what the choices before it have left:
    with a count of 5 and the choices 1 and 3, the numbers 0, 1, 2 stand for 0, 2, 4. A number below
    n is the upper half of 32 random bits times n, without a division (Lemire 2019,
    https://arxiv.org/abs/1805.10941).

    Args:
        words: random bits.
        counts: at least as many as choices.
    """
    chosen = np.empty(words.shape, dtype=np.int64)
    for column in range(words.shape[1]):
        left = (counts - column).astype(np.uint64)
        choice = (words[:, column] * left >> np.uint64(32)).astype(np.int64)
        for earlier in np.sort(chosen[:, :column], axis=1).T:  # skip what is taken
            choice += choice >= earlier
        chosen[:, column] = choice
    return chosen


def _longest(
    pairs: PairSet, rows: np.ndarray, positives: np.ndarray, negatives: np.ndarray, max_length: int
) -> np.ndarray:
    """Tokens of each row's longest text."""
    lengths = np.minimum(pairs.text_lengths, max_length)
    longest: np.ndarray = lengths[pairs.queries[rows]]
    for texts in (pairs.positives[positives], *pairs.negatives[negatives.T]):
        longest = np.maximum(longest, lengths[texts])
    return longest


def _by_length(lengths: NDArray[np.int64], options: PlanOptions) -> NDArray[np.int64]:
    """Indices of the rows, sorted by length within each window; equals stay as they are."""
    indices = np.arange(len(lengths))
    if options.window_batches == 1:
        return indices
    windows = indices // (options.window_batches * options.batch_size)
    # One integer of (window, length, index): a plain sort, several times faster than a stable
    # argsort.
    keys = (windows * (options.max_length + 1) + lengths) * len(lengths) + indices
    order: NDArray[np.int64] = np.sort(keys) % len(lengths)
    return order


def _shared_texts(pairs: PairSet, rows: np.ndarray, negatives: np.ndarray) -> SharedTexts:
    """Texts by which rows clash: queries, all positives (chosen or not), chosen negatives."""
    indices = np.arange(len(rows))
    starts = pairs.positive_starts[rows]
    counts = pairs.positive_starts[rows + 1] - starts
    firsts = np.cumsum(counts) - counts
    # Each row's range of `pairs.positives`, starts to starts + counts, end to end.
    positives = np.arange(counts.sum()) + np.repeat(starts - firsts, counts)
    owners = [indices, np.repeat(indices, counts), np.repeat(indices, negatives.shape[1])]
    texts = [
        pairs.queries[rows],
        pairs.positives[positives],
        pairs.negatives[negatives.reshape(-1)],
    ]
    originals = pairs.originals[np.concatenate(texts)]
    return SharedTexts.build(np.concatenate(owners), originals, len(rows))
