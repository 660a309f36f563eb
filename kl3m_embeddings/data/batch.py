"""What one forward pass takes: tensors of a fixed shape, and what the log says of them."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
    """Samples without the structure that the task asks for, trained by plain masking."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one device."""

    input_ids: Int[Tensor, "batch length"]
    attention_mask: Int[Tensor, "batch length"]
    target_positions: Int[Tensor, " targets"]
    """Places in the flattened (batch * length) that the masked-language-model head predicts."""
    target_labels: Int[Tensor, " targets"]
    """Token ids there; IGNORED_LABEL where the fixed shape is not filled."""
    pair_labels: Float[Tensor, " batch"] | None = None
    """1: the second segment follows the first; 0: it does not; NaN: there is no second."""
    embedding_mask: Float[Tensor, " hidden"] | None = None
    """Ones, then zeros from `reduced_dim` on; None: all dimensions."""
    dropout_seed: int | None = None
    """Seeds torch's generators before the forward pass; None: evaluation, no dropout."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of targets of each loss: what its sum is divided by, over the whole step."""
    info: BatchInfo

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors, without waiting for the device."""
        tensors: dict[str, Any] = {
            entry.name: value.to(device, non_blocking=True)
            for entry in fields(self)
            if isinstance(value := getattr(self, entry.name), Tensor)
        }
        return replace(self, **tensors)
