"""Which tokens are predicted, and what stands in their place.

Tokens are chosen in groups: single tokens, words, or spans. Every sample has a budget, its share of
tokens rounded, and groups are taken in a random order until the next would exceed it. A budget, and
not a coin for every token, makes the number of targets known in advance, so that shapes are fixed.
Of the words `ab c def gh` with a budget of 4 in the order def, c, gh, ab: def and c are taken, 4
tokens together (one a letter). With a budget of 5, gh would make it 6, and ends the choice all the
same.

80% of the chosen are masked, 10% replaced, 10% kept: Devlin et al. 2019,
https://arxiv.org/abs/1810.04805. Spans: Joshi et al. 2020, https://arxiv.org/abs/1907.10529.
"""

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.data.counter_random import derive_key, random_uint32
from kl3m_embeddings.tasks.base import TextSource

MASK_SHARE, REPLACE_SHARE = 0.8, 0.1
UINT32_RANGE = 2.0**32


def budget(
    lengths: Int64[np.ndarray, " samples"], mask_rate: float
) -> Int64[np.ndarray, " samples"]:
    """Tokens to predict for each length: its share rounded, and at least one."""
    rounded: np.ndarray = np.rint(lengths * mask_rate).astype(np.int64)
    at_least_one: np.ndarray = np.maximum(rounded, 1)
    return at_least_one


def max_budget(window: int, mask_rate: float) -> int:
    """The budget of a full window."""
    return int(budget(np.array([window]), mask_rate)[0])


def mask_tokens(
    source: TextSource,
    input_ids: Int64[np.ndarray, "samples length"],
    maskable: Bool[np.ndarray, "samples length"],
    first_sample: int,
    options: MlmOptions,
) -> tuple[Int64[np.ndarray, "samples length"], Int64[np.ndarray, "samples length"]]:
    """Corrupted ids and labels.

    Args:
        source: the tokenizer's ids and the seed.
        input_ids: framed, padding included.
        maskable: where ordinary tokens stand; every row has at least one.
        first_sample: index of the first row in the run: rows are masked alike wherever they are.
        options: rate and kind of groups.
    """
    num_rows, length = input_ids.shape
    key = derive_key(source.seed, "mask")
    random = random_uint32(key, first_sample, num_rows, 4 * length)
    # Each (samples, length), from 4 numbers for each token: of a group's turn, of what happens to a
    # token, which one replaces it, and whether a span begins.
    keys, actions, replacements, breaks = random.reshape(num_rows, 4, length).swapaxes(0, 1)
    first_of_run = maskable & ~np.pad(maskable, ((0, 0), (1, 0)))[:, :-1]
    starts = first_of_run | (maskable & group_starts(source, input_ids, breaks, options))
    budgets = budget(maskable.sum(axis=1), options.mask_rate)
    chosen = choose_groups(starts, maskable, keys, budgets)
    labels = np.where(chosen, input_ids, IGNORED_LABEL)
    masked = chosen & (actions < MASK_SHARE * UINT32_RANGE)
    replaced = chosen & ~masked & (actions < (MASK_SHARE + REPLACE_SHARE) * UINT32_RANGE)
    corrupted = np.where(masked, source.tokenizer.mask_id, input_ids)
    corrupted[replaced] = source.ordinary_ids[replacements[replaced] % len(source.ordinary_ids)]
    return corrupted, labels


def group_starts(
    source: TextSource,
    input_ids: Int64[np.ndarray, "samples length"],
    breaks: UInt32[np.ndarray, "samples length"],
    options: MlmOptions,
) -> Bool[np.ndarray, "samples length"]:
    """Where a token begins a new group."""
    starts: np.ndarray = np.ones_like(input_ids, dtype=np.bool_)
    if options.masking == "word":
        starts = source.word_start_ids[input_ids]
    elif options.masking == "span":
        # a break before each token with probability 1/mean gives spans of a geometric length
        starts = breaks < UINT32_RANGE / max(options.mean_span_tokens, 1.0)
    return starts


def choose_groups(
    starts: Bool[np.ndarray, "samples length"],
    maskable: Bool[np.ndarray, "samples length"],
    keys: UInt32[np.ndarray, "samples length"],
    budgets: Int64[np.ndarray, " samples"],
) -> Bool[np.ndarray, "samples length"]:
    """Choose whole groups, in random order, up to each row's budget of tokens.

    Args:
        starts: where groups begin; others continue the group before.
        maskable: which tokens may be chosen.
        keys: random: group g has its turn by the g-th of its row.
        budgets: at least 1. A first group above it is chosen in part.
    """
    num_rows, length = starts.shape
    rows = np.arange(num_rows)[:, None]
    groups = np.maximum(np.cumsum(starts, axis=1) - 1, 0)  # the index of each token's group
    # One sort by (key, group, position), 32, 16 and 15 bits of an integer: the group breaks ties
    # between equal keys, the position keeps a group's tokens in their order. In rows of more than
    # 2**15 tokens the fields overlap, and equal keys (1 in 2**32) may mix two groups.
    order_keys = (keys[rows, groups].astype(np.uint64) << np.uint64(31)) | (
        (groups.astype(np.uint64) << np.uint64(15)) | np.arange(length, dtype=np.uint64)
    )
    order_keys[~maskable] = np.iinfo(np.uint64).max
    order = np.argsort(order_keys, axis=1)
    # From here on columns are turns: the groups follow one another in the order drawn.
    ordered_groups = np.where(maskable, groups, length)[rows, order]
    ends = np.where(np.diff(ordered_groups, axis=1, append=-1) != 0, np.arange(length), length)
    group_ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]  # of each turn's group
    num_maskable = maskable.sum(axis=1)[:, None]
    # A group that ends at turn e, counted from 0, makes e + 1 tokens with those before it.
    taken = group_ends < np.minimum(budgets[:, None], num_maskable)
    first_too_long = ~taken.any(axis=1)
    taken[first_too_long] = np.arange(length) < budgets[first_too_long, None]
    chosen: np.ndarray = np.zeros_like(maskable)
    chosen[rows, order] = taken  # from turns back to positions
    chosen &= maskable
    return chosen
