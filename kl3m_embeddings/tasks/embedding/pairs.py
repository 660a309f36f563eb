"""Queries with their positives and negatives, read from files (docs/pairs.md).

A sample's index gives the batch it is in and its row there; a rank reads some rows of the batch.
The columns are queries, positives, and one for each hard negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.config.tasks import PairsOptions
from kl3m_embeddings.data.pair_sets.order import PairBatch, PairOrder
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.base import Compared, PairLoss
from kl3m_embeddings.losses.build import chosen_loss
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask, TextColumns

LARGEST_MARGIN = 2
"""Between two similarities that lie from -1 to 1, or from -2 to 0."""


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """The pair sets, in their order."""

    order: PairOrder
    tokenizer: Tokenizer
    guides: Sequence[NDArray[np.float32] | None]
    """For each set, a guide model's vectors of its texts, by text id."""
    guide_similarity: SimilarityName = "cosine"
    """How the guide compares them."""


class Pairs(EmbeddingTask[PairSource, PairsOptions]):
    """`pairs`: rows of files are pairs, with hard negatives if there are any."""

    name = "pairs"
    reads = "pairs"

    @staticmethod
    def new_loss(options: PairsOptions, compared: Compared) -> PairLoss:
        """The loss that the options name."""
        return chosen_loss("pairs", options.loss, compared)

    def columns(self, source: PairSource, first_sample: int, count: int) -> TextColumns:
        """Queries, positives, then one column for each negative."""
        batch_index, row = divmod(first_sample, source.order.options.batch_size)
        batch = source.order.batch(batch_index, slice(row, row + count))
        pairs = source.order.sets[batch.set_index]
        # Of shape (columns, samples).
        ids = np.stack([batch.queries, batch.positives, *batch.negatives.T])
        tokenizer = source.tokenizer
        tokens, lengths = pairs.text_tokens(
            ids.reshape(-1),
            self.seq_len - tokenizer.num_special,
            cuts_left=tokenizer.cuts_left,
        )
        guide = source.guides[batch.set_index]
        return TextColumns(
            tokens=tokens.reshape(*ids.shape, -1),
            lengths=lengths.reshape(ids.shape),
            text_groups=pairs.originals[ids],
            datasets=np.full_like(ids, batch.set_index),
            dataset_names=[pair_set.name for pair_set in source.order.sets],
            documents={pairs.name: [pairs.place(row) for row in batch.rows.tolist()]},
            num_clashes=batch.num_clashes,
            labels=batch.labels,
            teacher_scores=_teacher_scores(batch),
            guide_embeddings=None if guide is None else guide[ids],
            guide_similarity=source.guide_similarity,
        )


def _teacher_scores(batch: PairBatch) -> NDArray[np.float32] | None:
    """Of the positive, then of each negative: (samples, columns - 1)."""
    if batch.positive_scores is None or batch.negative_scores is None:
        return None
    scores: NDArray[np.float32] = np.column_stack([batch.positive_scores, batch.negative_scores])
    return scores


def check_loss(options: PairsOptions, sets: Sequence[PairSet], compared: Compared) -> None:
    """Check that every set has what the loss needs, before anything heavy is done.

    Args:
        options: of the task.
        sets: what it trains on.
        compared: how the run compares vectors.

    Raises:
        ConfigError: naming the set, what is wrong, and a way out.
    """
    loss = LOSSES[options.loss.name]
    for pairs in sets:
        problem = _problem(loss, options.num_negatives, pairs)
        if problem is None and loss.fits_margins and compared.in_unit_range:
            problem = _problem_of_margins(pairs)
        if problem:
            raise ConfigError(
                f"tasks.pairs.loss: {options.loss.name}: pairs.{pairs.name}: {problem}"
            )


def _problem(loss: type[PairLoss], num_negatives: int, pairs: PairSet) -> str | None:
    """What the loss would miss or misread in this set, and a way out; None if all is well."""
    labels = pairs.labels
    if labels is not None and num_negatives:
        return "a label belongs to two texts: set num_negatives to 0"
    if labels is not None and not loss.takes_labels:
        return "its labels would be ignored: choose cosent, or leave the label column out"
    if labels is not None and loss.labels_end_at_1 and (labels.min() < 0 or labels.max() > 1):
        return "its labels go beyond 0 to 1: divide them, or choose cosent, which takes any"
    if labels is not None and labels.min() == labels.max():
        return (
            f"its labels are all {labels[0]:g}, which tells nothing apart: add rows with others, "
            "or leave the label column out and choose infonce"
        )
    if labels is None and not loss.has_in_batch_negatives and not num_negatives:
        return "there is nothing to tell apart: set num_negatives, add labels, or choose infonce"
    if loss.needs_scores and not pairs.has_teacher_scores:
        return "a teacher's score (docscore, negscore) is missing: add it, or choose infonce"
    return None


def _problem_of_margins(pairs: PairSet) -> str | None:
    """Whether most of the teacher's margins are beyond any that similarities of this range have."""
    assert pairs.positive_scores is not None and pairs.negative_scores is not None
    first_positives = pairs.positive_scores[pairs.positive_starts[:-1]]
    margins = np.repeat(first_positives, np.diff(pairs.negative_starts)) - pairs.negative_scores
    typical = float(np.median(np.abs(margins)))
    if typical <= LARGEST_MARGIN:
        return None
    return (
        f"half of its teacher's margins are {typical:.3g} or more, and those of vectors compared "
        f"by their direction end at {LARGEST_MARGIN}: set similarity to dot and normalise to "
        "false, or choose kl_distillation"
    )
