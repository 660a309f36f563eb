"""What all embedding tasks share: texts in columns become vectors, and the vectors a loss.

1. A task names, for each sample, the texts of its columns: an anchor, its positive, hard negatives
   or what else its loss is made for (`TextColumns`).
2. The texts of all columns are rows of one batch. Rows of similar length are embedded together, so
   that little of it is padding; the graphs of all parts stay, and the loss sees all vectors.
3. With `chunk_tokens` no graph stays: GradCache embeds each part twice (losses/gradcache.py).
   Dropout masks belong to rows, so that both times they are the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.config.tasks import EmbeddingOptions
from kl3m_embeddings.data.batch import Batch, BatchInfo, PairTargets
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.encoder.encode import batches_by_length
from kl3m_embeddings.losses.base import BY_COSINE, Compared, PairLoss
from kl3m_embeddings.losses.gradcache import cached_gradients, surrogate
from kl3m_embeddings.losses.matryoshka import Matryoshka
from kl3m_embeddings.tasks.base import (
    Forward,
    LossPart,
    Outputs,
    Reads,
    StepTotals,
    TextLimits,
    framed,
)
from kl3m_embeddings.tasks.embedding.measures import in_batch_measures

PADDED_PART_TOKENS = 4096
PACKED_PART_TOKENS = 16384
ACCELERATOR_PART_TOKENS = 32768
"""Rows are embedded so many tokens at a time. Small parts keep rows of unlike length apart, so that
little is padding; where nothing is padded, or the device is wide, large ones are faster. Measured
on the CPU (docs/performance.md); the accelerators' is a guess."""


@dataclass(frozen=True, kw_only=True)
class TextColumns:
    """The texts of some samples, without special tokens, and where they come from."""

    tokens: NDArray[np.int64]
    """Shape (columns, samples, longest); anything beyond a text's length."""
    lengths: NDArray[np.int64]
    """Shape (columns, samples): tokens of each text; at least 1."""
    text_groups: NDArray[np.int64]
    """Shape (columns, samples): equal for texts that are known to be equal."""
    datasets: NDArray[np.int64]
    """Shape (columns, samples): which of `dataset_names` a text is of."""
    dataset_names: Sequence[str]
    documents: dict[str, list[str]]
    """Names of what the texts are taken from, by dataset, for the log."""
    num_fallback: int = 0
    num_clashes: int = 0
    labels: NDArray[np.float32] | None = None
    """Shape (samples)."""
    teacher_scores: NDArray[np.float32] | None = None
    """Shape (samples, columns - 1)."""
    guide_embeddings: NDArray[np.float32] | None = None
    """Shape (columns, samples, the guide's dimensions)."""
    guide_similarity: SimilarityName = "cosine"
    """How the guide compares them."""


@runtime_checkable
class EmbeddingSource(Protocol):
    """What samples are made of, and the tokenizer that made it tokens."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Gives the special ids."""
        ...


SourceT = TypeVar("SourceT", bound=EmbeddingSource)
OptionsT = TypeVar("OptionsT", bound=EmbeddingOptions)


class EmbeddingTask(ABC, Generic[SourceT, OptionsT]):
    """A task whose loss compares the vectors of texts.

    Attributes:
        name: In training.json and in the log.
        seq_len: Tokens of a text, special ones included.
        loss: Takes embeddings of shape (columns, samples, dim) and targets.
        similarity: How it, and what is measured beside it, compares vectors.
    """

    name: ClassVar[str]
    reads: ClassVar[Reads] = "text"
    has_own_samples: ClassVar[bool] = True
    reduces_dims: ClassVar[bool] = False

    def __init__(
        self,
        options: OptionsT,
        max_length: int,
        part_tokens: int = PADDED_PART_TOKENS,
        compared: Compared = BY_COSINE,
    ) -> None:
        """Make the loss that the options name.

        Args:
            options: of the task.
            max_length: tokens of a text, special ones included, where the options name none.
            part_tokens: of the rows that are embedded together, padding included, where the
                options name no chunks.
            compared: how the run compares vectors.
        """
        self.options = options
        self.seq_len = options.seq_len or max_length
        self.chunk_tokens = options.chunk_tokens
        self.part_tokens = part_tokens
        loss = self.new_loss(options, compared)
        self.loss: nn.Module = loss
        self.similarity = loss.similarity
        is_learnt = getattr(loss, "raw_temperature", None) is not None
        self.learnt_temperature: Any = loss if is_learnt else None
        if options.matryoshka_dims:
            self.loss = Matryoshka(loss, options.matryoshka_dims, options.matryoshka_weights)

    @classmethod
    def create(
        cls, options: OptionsT, limits: TextLimits, compared: Compared
    ) -> "EmbeddingTask[SourceT, OptionsT]":
        """The task with these options."""
        return cls(options, limits.max_length, limits.part_tokens, compared)

    @staticmethod
    @abstractmethod
    def new_loss(options: OptionsT, compared: Compared) -> PairLoss:
        """The loss, without Matryoshka sizes."""

    @abstractmethod
    def columns(self, source: SourceT, first_sample: int, count: int) -> TextColumns:
        """The texts of samples `first_sample` and on: a pure function of seed and numbers."""

    def outcome(self, totals: StepTotals) -> dict[str, float | int]:
        """The measures of the batches, and how many pairs they had."""
        return {
            **totals.measures,
            "num_pairs": int(totals.divisors["pairs"]),
            "num_clashes": totals.num_clashes,
        }

    def measures(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> dict[str, Tensor]:
        """What the log says beside the loss: means over this device's pairs."""
        if targets.labels is not None:
            return {}
        return in_batch_measures(embeddings, targets, self.similarity)

    def _measured(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets, weight: float
    ) -> dict[str, Tensor]:
        """The measures, and a learnt temperature, as this micro-batch's part of the step's mean."""
        measures = self.measures(embeddings, targets)
        if self.learnt_temperature is not None:
            measures["temperature"] = self.learnt_temperature.temperature.detach()
        return {name: value * weight for name, value in measures.items()}

    def batch(self, source: SourceT, first_sample: int, count: int) -> Batch:
        """Rows are the texts of column 0, then those of column 1, and so on."""
        texts = self.columns(source, first_sample, count)
        num_texts = texts.lengths.size
        num_special = source.tokenizer.num_special
        lengths = np.minimum(texts.lengths, self.seq_len - num_special).reshape(-1)
        tokens = texts.tokens.reshape(num_texts, -1)[:, : lengths.max()]
        row_length = int(lengths.max()) + num_special
        input_ids, attention_mask = framed(source.tokenizer, tokens, lengths, row_length)
        return Batch(
            input_ids=torch.from_numpy(input_ids),
            attention_mask=torch.from_numpy(attention_mask),
            parts=split_by_length(lengths + num_special, self.chunk_tokens or self.part_tokens),
            pair_targets=_targets(texts),
            counts={"pairs": count},
            info=_info(self.name, texts, lengths + num_special),
        )

    def losses(
        self, forward: Forward, batch: Batch, divisors: dict[str, float]
    ) -> Iterator[LossPart]:
        """One backward pass; with GradCache, one a part."""
        weight = batch.counts["pairs"] / divisors["pairs"]  # this micro-batch's share of the step
        cached = self.chunk_tokens is not None
        vectors = _embed(forward, batch, grad=not cached)
        assert batch.pair_targets is not None
        targets = batch.pair_targets.to(vectors.device)
        embeddings = vectors.view(-1, batch.counts["pairs"], vectors.shape[-1])
        measures = self._measured(embeddings.detach(), targets, weight)
        if not cached:
            yield LossPart(self.loss(embeddings, targets) * weight, True, measures)
            return
        yield from self._cached_losses(forward, batch, embeddings, targets, weight, measures)

    def _cached_losses(
        self,
        forward: Forward,
        batch: Batch,
        embeddings: Float[Tensor, "columns pairs dim"],
        targets: PairTargets,
        weight: float,
        measures: dict[str, Tensor],
    ) -> Iterator[LossPart]:
        """GradCache's second pass; the loss's value and its own parameters go with the first."""
        cached = cached_gradients(self.loss, embeddings, targets)
        gradients = cached.embeddings.flatten(0, 1) * weight
        share = cached.loss * weight
        for name, gradient in cached.parameters.items():
            share = surrogate(self.loss.get_parameter(name), gradient * weight, share)
        for index, rows in enumerate(batch.parts):
            outputs = _vectors(forward(batch.rows(rows)))
            loss = surrogate(outputs, gradients[rows.to(gradients.device)], share)
            yield LossPart(loss, index == len(batch.parts) - 1, measures)
            share, measures = torch.zeros_like(cached.loss), {}


def part_tokens(device: torch.device, *, is_packed: bool) -> int:
    """Tokens of a part, padding included.

    Args:
        device: of the encoder.
        is_packed: whether it computes no padding.
    """
    if device.type != "cpu":
        return ACCELERATOR_PART_TOKENS
    return PACKED_PART_TOKENS if is_packed else PADDED_PART_TOKENS


def split_by_length(
    lengths: NDArray[np.int64], max_tokens: int
) -> tuple[Int[Tensor, " rows"], ...]:
    """Rows of similar length, longest first, in parts of at most `max_tokens`, padding included."""
    parts = batches_by_length(lengths.tolist(), max_tokens)
    return tuple(torch.tensor(rows) for rows in parts)


def _embed(forward: Forward, batch: Batch, *, grad: bool) -> Float[Tensor, "rows dim"]:
    """The vectors of all rows, in the batch's order."""
    vectors = [_vectors(forward(batch.rows(rows), grad=grad)) for rows in batch.parts]
    together = torch.cat(vectors)
    return together[torch.cat(batch.parts).argsort().to(together.device)]


def _vectors(outputs: Outputs) -> Float[Tensor, "rows dim"]:
    assert outputs.embeddings is not None
    return outputs.embeddings


def _targets(texts: TextColumns) -> PairTargets:
    def tensor(values: NDArray[np.float32] | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(np.ascontiguousarray(values))

    return PairTargets(
        labels=tensor(texts.labels),
        teacher_scores=tensor(texts.teacher_scores),
        text_groups=torch.from_numpy(np.ascontiguousarray(texts.text_groups)),
        guide_embeddings=tensor(texts.guide_embeddings),
        guide_similarity=texts.guide_similarity,
    )


def _info(task: str, texts: TextColumns, num_tokens: NDArray[np.int64]) -> BatchInfo:
    """Samples count for the dataset of their first column, tokens for that of each text."""
    names = texts.dataset_names
    samples = np.bincount(texts.datasets[0], minlength=len(names))
    tokens = np.bincount(texts.datasets.reshape(-1), num_tokens, minlength=len(names))
    present = np.flatnonzero(tokens).tolist()
    return BatchInfo(
        task=task,
        samples_by_dataset={names[i]: int(samples[i]) for i in present},
        tokens_by_dataset={names[i]: int(tokens[i]) for i in present},
        documents=texts.documents,
        num_fallback=texts.num_fallback,
        num_clashes=texts.num_clashes,
    )
