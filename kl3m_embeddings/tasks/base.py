"""What a task is: how a batch is made from sample numbers, and which losses it yields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from kl3m_embeddings.data.batch import IGNORED_LABEL, Batch, BatchInfo
from kl3m_embeddings.data.samples.corpus import Corpus, Windows
from kl3m_embeddings.data.samples.packing import PackedCorpus
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer

Reads = Literal["text", "pairs"]


class Outputs(NamedTuple):
    """What one forward pass gives: losses, or embeddings. Everything stays on the device.

    A tuple, for an engine that hooks the backward pass must find the tensors (ZeRO-3).
    """

    loss_sums: Mapping[str, Float[Tensor, ""]] = MappingProxyType({})
    """Sum of each loss over its targets in this batch."""
    target_losses: Float[Tensor, " targets"] | None = None
    """Masked-language-model loss of every target; 0 at those that fill up their fixed number."""
    num_correct: Int[Tensor, ""] | None = None
    """Targets whose likeliest token is the right one."""
    embeddings: Float[Tensor, "rows dim"] | None = None
    """The vector of each row, in float32."""


@runtime_checkable
class Forward(Protocol):
    """The engine's forward pass."""

    def __call__(self, batch: Batch, *, grad: bool = True) -> Outputs:
        """Run the objective on rows of this device."""
        ...


class LossPart(NamedTuple):
    """One backward pass of a micro-batch."""

    loss: Float[Tensor, ""]
    """Over a step, these add up to the loss that is logged."""
    is_last: bool
    """Whether it is the last of its micro-batch."""
    measures: Mapping[str, Float[Tensor, ""]] = MappingProxyType({})
    """What else the log says of the step; over a step, these add up, too."""


class StepTotals(NamedTuple):
    """What a step has counted and measured beside its loss, over all devices."""

    divisors: Mapping[str, float]
    """Number of targets of each loss."""
    num_correct: int
    """Masked tokens whose likeliest token was the right one."""
    measures: Mapping[str, float]
    num_clashes: int


class TextLimits(NamedTuple):
    """What the encoder and the device allow."""

    max_length: int
    """Tokens of a text, special ones included, where a task's options name none."""
    part_tokens: int
    """Tokens of the rows that are embedded together, padding included."""


SourceT_contra = TypeVar("SourceT_contra", contravariant=True)


@runtime_checkable
class Task(Protocol[SourceT_contra]):
    """One kind of training step.

    Attributes:
        reads: what its source is made of: `text`, the windows of the corpus (`TextSource`), or
            `pairs`, the rows of pair sets.
        has_own_samples: whether its samples are numbered by its own steps, so that it goes through
            all of its source; otherwise by the run's, so that no two tasks train on one sample.
        reduces_dims: whether `reduced_dim` is drawn for its steps.
    """

    reads: ClassVar[Reads]
    has_own_samples: ClassVar[bool]
    reduces_dims: ClassVar[bool]

    @property
    def loss(self) -> nn.Module | None:
        """What compares the vectors of texts, trained along; None where tokens are predicted."""
        ...

    def batch(self, source: SourceT_contra, first_sample: int, count: int) -> Batch:
        """Samples `first_sample` and on: a pure function of the source's seed and the numbers."""
        ...

    def losses(
        self, forward: Forward, batch: Batch, divisors: dict[str, float]
    ) -> Iterator[LossPart]:
        """Losses to go backward from.

        Args:
            forward: the engine's forward pass.
            batch: what `batch` gave.
            divisors: number of targets of each loss in the whole step, over all devices.
        """
        ...

    def outcome(self, totals: StepTotals) -> dict[str, float | int]:
        """What the log says of a step of this task, beside its loss."""
        ...


@dataclass(frozen=True)
class TextSource:
    """The text that batches are made of, and the tokenizer's ids that they need."""

    corpus: Corpus
    tokenizer: Tokenizer
    max_length: int
    """Tokens of a row, special ones included."""
    seed: int

    @cached_property
    def packs(self) -> PackedCorpus:
        """The same windows, several short ones to a row."""
        return PackedCorpus.build(self.corpus, self.max_length, self.tokenizer.num_special)

    @cached_property
    def newline_ids(self) -> NDArray[np.bool_]:
        """For every token id: does its text hold a line break?"""
        return self.tokenizer.newline_ids()

    @cached_property
    def word_start_ids(self) -> NDArray[np.bool_]:
        """For every token id: does it begin a word?"""
        return self.tokenizer.word_start_ids()

    @cached_property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """The ids of the tokens that are not special."""
        return np.flatnonzero(~self.tokenizer.special_ids())


def framed(
    tokenizer: Tokenizer,
    tokens: NDArray[np.int64],
    lengths: NDArray[np.int64],
    row_length: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens with what stands around them, padded, and the attention mask; both (rows, row_length).

    Args:
        tokenizer: gives what stands around a text, mostly `[CLS] tokens [SEP]`.
        tokens: shape (rows, at most row_length - tokenizer.num_special).
        lengths: shape (rows): how many of each row's tokens count.
        row_length: of what is returned.
    """
    prefix, suffix = tokenizer.prefix_ids, tokenizer.suffix_ids
    rows, ends = np.arange(len(tokens)), len(prefix) + lengths
    input_ids = np.full((len(tokens), row_length), tokenizer.pad_id, dtype=np.int64)
    input_ids[:, : len(prefix)] = prefix
    columns = np.arange(row_length)
    inside = (columns >= len(prefix)) & (columns < ends[:, None])
    input_ids[inside] = tokens[np.arange(tokens.shape[1]) < lengths[:, None]]
    for place, index in enumerate(suffix):
        input_ids[rows, ends + place] = index
    return input_ids, (columns < ends[:, None] + len(suffix)).astype(np.int64)


def assemble(
    source: TextSource,
    windows: Windows,
    *,
    task: str,
    input_ids: NDArray[np.int64],
    attention_mask: NDArray[np.int64],
    labels: NDArray[np.int64],
    targets_per_sample: int,
    num_fallback: int = 0,
    row_datasets: NDArray[np.int64] | None = None,
) -> Batch:
    """Turn arrays of shape (samples, max_length) into a batch whose targets have a fixed shape.

    Args:
        source: names the datasets and documents.
        windows: where the samples come from.
        task: for the log.
        input_ids: what the encoder reads.
        attention_mask: 1 at tokens, 0 at padding.
        labels: the token to predict, or IGNORED_LABEL.
        targets_per_sample: the fixed number of targets is this times the samples.
        num_fallback: for the log.
        row_datasets: the dataset of each sample, where one has several windows.
    """
    positions = np.flatnonzero(labels != IGNORED_LABEL)
    num_slots = targets_per_sample * len(input_ids)
    assert len(positions) <= num_slots
    target_positions = np.zeros(num_slots, dtype=np.int64)
    target_labels = np.full(num_slots, IGNORED_LABEL, dtype=np.int64)
    target_positions[: len(positions)] = positions
    target_labels[: len(positions)] = labels.reshape(-1)[positions]
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(attention_mask),
        target_positions=torch.from_numpy(target_positions),
        target_labels=torch.from_numpy(target_labels),
        counts={"mlm": len(positions)},
        info=_info(
            source.corpus,
            windows,
            windows.datasets if row_datasets is None else row_datasets,
            task,
            attention_mask,
            num_fallback,
        ),
    )


def _info(
    corpus: Corpus,
    windows: Windows,
    row_datasets: NDArray[np.int64],
    task: str,
    attention_mask: NDArray[np.int64],
    num_fallback: int,
) -> BatchInfo:
    num_tokens = attention_mask.sum(axis=1)
    samples: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for dataset in np.unique(row_datasets):
        rows = row_datasets == dataset
        samples[corpus.names[dataset]] = int(rows.sum())
        tokens[corpus.names[dataset]] = int(num_tokens[rows].sum())
    return BatchInfo(
        task=task,
        samples_by_dataset=samples,
        tokens_by_dataset=tokens,
        documents=corpus.document_ids(windows),
        num_fallback=num_fallback,
    )
