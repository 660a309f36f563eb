"""What one forward pass takes: token ids, what is asked of them, and what the log says of it.

Masked tasks ask for tokens at `target_positions`, whose number is fixed. Embedding tasks ask for a
vector of each row; their rows are the texts of all columns, one column after another.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.counter_random import derive_key, random_uint32

T = TypeVar("T", "Batch", "PairTargets")
IGNORED_LABEL = -100
"""The label of the places that fill the targets up to their fixed shape."""


@dataclass(frozen=True, kw_only=True)
class BatchInfo:
    """What the log says of a batch."""

    task: str
    samples_by_dataset: dict[str, int]
    tokens_by_dataset: dict[str, int]
    documents: dict[str, list[str]]
    num_fallback: int = 0
    """Samples without the structure that the task asks for, trained in a plainer way."""
    num_clashes: int = 0
    """Pairs that have a text of a pair before them in the batch."""


@dataclass(frozen=True, kw_only=True)
class PairTargets:
    """What is known of pairs beside their texts.

    Column 0 of an embedding batch holds anchors, 1 positives, 2 and on hard negatives.
    """

    labels: Float[Tensor, " pairs"] | None = None
    """How similar columns 0 and 1 are: 0 or 1, or graded."""
    teacher_scores: Float[Tensor, "pairs candidates"] | None = None
    """A teacher's score of the anchor with its positive, then with each of its negatives."""
    text_groups: Int[Tensor, "columns pairs"] | None = None
    """Texts of one group count as equal, on all devices. A group is a number: a hash, say."""
    guide_embeddings: Float[Tensor, "columns pairs guide_dim"] | None = None
    """Another model's embeddings of the same texts; they need not be normalised."""
    guide_similarity: SimilarityName = "cosine"
    """How that model compares them."""

    def to(self, device: torch.device) -> "PairTargets":
        """Copy the tensors, without waiting for the device."""
        return _mapped(self, lambda one: one.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one device."""

    input_ids: Int[Tensor, "batch length"]
    attention_mask: Int[Tensor, "batch length"]
    target_positions: Int[Tensor, " targets"] | None = None
    """Places in the flattened (batch * length) that the masked-language-model head predicts; None:
    the texts' embeddings are wanted."""
    target_labels: Int[Tensor, " targets"] | None = None
    """Token ids there; IGNORED_LABEL where the fixed shape is not filled."""
    bounds: Int[Tensor, "sequences 2"] | None = None
    """Where the documents of packed rows begin and end among the flat tokens; filled up with empty
    ones to a fixed number. None: each row is one sequence."""
    segment_labels: Float[Tensor, " batch"] | None = None
    """1: the second segment follows the first; 0: it does not; NaN: there is no second."""
    parts: tuple[Int[Tensor, " _"], ...] = ()
    """The rows that are embedded together; their numbers, together all rows."""
    pair_targets: PairTargets | None = None
    """What embeddings are compared by."""
    embedding_mask: Float[Tensor, " hidden"] | None = None
    """Ones, then zeros from `reduced_dim` on; None: all dimensions."""
    row_keys: Int[Tensor, " batch"] | None = None
    """64 random bits for each row, which say what is dropped; None: the batch is not trained on."""
    step_key: Int[Tensor, " 1"] | None = None
    """The same for what belongs to no row."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of targets of each loss: what its sum is divided by, over the whole step."""
    info: BatchInfo

    def shapes(self) -> list[tuple[int, int]]:
        """Rows and length of each forward pass, padding included."""
        if not self.parts:
            return [(self.input_ids.shape[0], self.input_ids.shape[1])]
        lengths = self.attention_mask.sum(dim=1)
        return [(len(rows), int(lengths[rows].max())) for rows in self.parts]

    def attention_length(self, length: int) -> float:
        """How many tokens each place of rows of `length` attends to, padding included."""
        if self.bounds is None:
            return float(length)
        lengths = (self.bounds[:, 1] - self.bounds[:, 0]).double()
        return float(lengths.square().sum()) / self.input_ids.numel()

    @property
    def trains(self) -> bool:
        """Whether the batch is trained on, with dropout; else it is evaluated on, without."""
        return self.row_keys is not None

    @property
    def num_targets(self) -> int:
        """Places that the masked-language-model head predicts, filling ones included."""
        return 0 if self.target_positions is None else len(self.target_positions)

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors, without waiting for the device."""
        return _mapped(self, lambda one: one.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """In memory that a GPU copies from by itself, while the host goes on."""
        return _mapped(self, Tensor.pin_memory)

    def with_parts(self, num_parts: int) -> "Batch":
        """The same rows in more parts: the largest are halved until there are enough."""
        parts = list(self.parts)
        while len(parts) < num_parts:
            index = max(range(len(parts)), key=lambda index: len(parts[index]))
            half = -(-len(parts[index]) // 2)
            parts[index : index + 1] = [parts[index][:half], parts[index][half:]]
        return replace(self, parts=tuple(parts))

    def with_dropout(self, key: int, first_sample: int, num_samples: int) -> "Batch":
        """The same rows, to be trained on.

        A row's dropout is a function of the key, of its sample's number and of its column: the same
        on whichever device, in whichever micro-batch.

        Args:
            key: of the step.
            first_sample: the number of the first sample among those of the step, on all devices.
            num_samples: of the batch, whose rows are one column of them after another.
        """
        columns = [
            random_uint32(derive_key(key, column), first_sample, num_samples, 2)
            for column in range(len(self.input_ids) // num_samples)
        ]
        row_keys = np.ascontiguousarray(np.concatenate(columns)).view(np.int64)[:, 0]
        step_key = np.array([key], dtype=np.uint64).view(np.int64)
        return replace(
            self, row_keys=torch.from_numpy(row_keys), step_key=torch.from_numpy(step_key)
        )

    def without_dropout(self) -> "Batch":
        """The same rows, to be evaluated on."""
        return replace(self, row_keys=None, step_key=None)

    def rows(self, rows: Int[Tensor, " rows"]) -> "Batch":
        """Some rows, cut to the longest of them, as a batch to embed."""
        mask = self.attention_mask[rows]
        length = int(mask.sum(dim=1).max())
        return replace(
            self,
            input_ids=self.input_ids[rows, :length],
            attention_mask=mask[:, :length],
            parts=(),
            pair_targets=None,
            row_keys=None if self.row_keys is None else self.row_keys[rows],
        )


def _mapped(values: T, function: Callable[[Tensor], Tensor]) -> T:
    tensors: dict[str, Any] = {
        entry.name: function(value)
        for entry in fields(values)
        if isinstance(value := getattr(values, entry.name), Tensor)
    }
    return replace(values, **tensors)
