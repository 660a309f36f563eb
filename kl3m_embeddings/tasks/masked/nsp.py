"""Next-segment prediction, beside masked language modelling: does the second follow the first?

1. A window is split at a random token between its first and last quarter.
2. `next_segment`: half of the second segments are replaced with text of another document (Devlin et
   al. 2019, https://arxiv.org/abs/1810.04805): the end of a window, as long as what it replaces, so
   that neither its beginning nor its length gives it away. `sentence_order`: half of the pairs are
   swapped (Lan et al. 2020, https://arxiv.org/abs/1909.11942).
3. A binary head on the first token tells which; both segments are masked as in `mlm`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from kl3m_embeddings.config.tasks import MlmOptions, NspOptions
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.data.samples.corpus import Windows
from kl3m_embeddings.tasks.base import TextSource, assemble
from kl3m_embeddings.tasks.masked.base import MaskedTask
from kl3m_embeddings.tasks.masked.masking import mask_tokens, max_budget

PARTNER_OFFSET = 1 << 40
"""The partner of sample n is sample n + this: far past any run, and as random."""


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Pairs of segments."""

    first: Int64[np.ndarray, "samples window"]
    first_lengths: Int64[np.ndarray, " samples"]
    second: Int64[np.ndarray, "samples window"]
    second_lengths: Int64[np.ndarray, " samples"]
    labels: Float32[np.ndarray, " samples"]
    """1: in order; 0: not; NaN: the pair says nothing."""


@dataclass(frozen=True)
class NextSegmentPrediction(MaskedTask[NspOptions]):
    """`nsp`: does the second segment follow the first, and some tokens are hidden."""

    def batch(self, source: TextSource, first_sample: int, count: int) -> Batch:
        """Pairs of segments with `mask_rate` of their tokens to predict."""
        windows = source.corpus.windows(first_sample, count)
        segments = self._segments(source, windows, first_sample)
        input_ids, attention_mask, maskable = framed_pairs(source, segments)
        masking = MlmOptions(probability=1.0, mask_rate=self.options.mask_rate)
        corrupted, labels = mask_tokens(source, input_ids, maskable, first_sample, masking)
        labelled = ~np.isnan(segments.labels)
        batch = assemble(
            source,
            windows,
            task="nsp",
            input_ids=corrupted,
            attention_mask=attention_mask,
            labels=labels,
            targets_per_sample=max_budget(source.corpus.window, self.options.mask_rate),
            num_fallback=int((~labelled).sum()),
        )
        return replace(
            batch,
            segment_labels=torch.from_numpy(segments.labels),
            counts=batch.counts | {"nsp": int(labelled.sum())},
        )

    def _segments(self, source: TextSource, windows: Windows, first_sample: int) -> Segments:
        """Each window's first segment, and what follows it or, for half of them, does not."""
        key = derive_key(source.seed, "nsp")
        draws = random_uniform(key, first_sample, len(windows.lengths), 2)
        lengths = np.minimum(windows.lengths, source.corpus.window - 1)  # room for a second [SEP]
        split = np.maximum((lengths * (0.25 + 0.5 * draws[:, 0])).astype(np.int64), 1)
        positive = draws[:, 1] < 0.5
        following = shifted(windows.tokens, split)
        if self.options.variant == "sentence_order":
            return _maybe_swapped(windows.tokens, following, lengths, split, positive)
        partners = source.corpus.windows(first_sample + PARTNER_OFFSET, len(lengths))
        # Of the partner's tokens, so many from its end, never its first quarter.
        num_last = np.minimum(lengths - split, partners.lengths - partners.lengths // 4)
        same_document = (partners.datasets == windows.datasets) & (
            partners.documents == windows.documents
        )
        labels = positive.astype(np.float32)
        # Text of the same document may follow, and a window of one token has no second segment.
        labels[(~positive & same_document) | (lengths < 2)] = np.nan
        other = shifted(partners.tokens, partners.lengths - num_last)
        return Segments(
            first=windows.tokens,
            first_lengths=split,
            second=np.where(positive[:, None], following, other),
            second_lengths=np.where(positive, lengths - split, num_last),
            labels=labels,
        )


def _maybe_swapped(
    tokens: Int64[np.ndarray, "samples window"],
    following: Int64[np.ndarray, "samples window"],
    lengths: Int64[np.ndarray, " samples"],
    split: Int64[np.ndarray, " samples"],
    positive: Bool[np.ndarray, " samples"],
) -> Segments:
    """Both halves of each window, in their order where `positive`, else the second one first."""
    labels = positive.astype(np.float32)
    labels[lengths < 2] = np.nan
    positive = positive | (lengths < 2)
    return Segments(
        first=np.where(positive[:, None], tokens, following),
        first_lengths=np.where(positive, split, lengths - split),
        second=np.where(positive[:, None], following, tokens),
        second_lengths=np.where(positive, lengths - split, split),
        labels=labels,
    )


def shifted(
    tokens: Int64[np.ndarray, "samples window"], offsets: Int64[np.ndarray, " samples"]
) -> Int64[np.ndarray, "samples window"]:
    """Each row moved left by its offset; what comes in at the right has no meaning."""
    columns = np.arange(tokens.shape[1]) + offsets[:, None]
    return np.take_along_axis(tokens, np.minimum(columns, tokens.shape[1] - 1), axis=1)


def framed_pairs(
    source: TextSource, segments: Segments
) -> tuple[
    Int64[np.ndarray, "samples max_length"],
    Int64[np.ndarray, "samples max_length"],
    Bool[np.ndarray, "samples max_length"],
]:
    """`[CLS] first [SEP] second [SEP]` padded, its attention mask, and where ordinary tokens are.

    A second segment of length 0 leaves its [SEP] out.
    """
    num_rows = len(segments.first)
    rows, positions = np.arange(num_rows), np.arange(source.max_length)[None, :]
    first_end = segments.first_lengths[:, None] + 1  # the first [SEP], (samples, 1)
    second_end = first_end + segments.second_lengths[:, None] + 1  # the second one
    has_second = segments.second_lengths > 0
    in_first = (positions >= 1) & (positions < first_end)
    in_second = (positions > first_end) & (positions < second_end) & has_second[:, None]
    input_ids = np.full((num_rows, source.max_length), source.tokenizer.pad_id, dtype=np.int64)
    columns = np.arange(segments.first.shape[1])
    # Boolean indexing runs row by row on both sides, over as many tokens in each row.
    input_ids[in_first] = segments.first[columns < segments.first_lengths[:, None]]
    input_ids[in_second] = segments.second[columns < segments.second_lengths[:, None]]
    input_ids[:, 0] = source.tokenizer.cls_id
    input_ids[rows, first_end[:, 0]] = source.tokenizer.sep_id
    input_ids[rows[has_second], second_end[has_second, 0]] = source.tokenizer.sep_id
    last = np.where(has_second[:, None], second_end, first_end)
    return input_ids, (positions <= last).astype(np.int64), in_first | in_second
