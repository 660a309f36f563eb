"""What the training loop asks of one device or of many."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.files.records import Count
from kl3m_embeddings.tasks.base import Outputs


@dataclass(kw_only=True)
class TrainState:
    """What a checkpoint holds beside weights and optimizer; JSON throughout."""

    step: Count = 0
    """Optimizer steps done, skipped ones included."""
    total_time: float = 0.0
    """Seconds of training steps so far."""
    skipped_in_a_row: Count = 0
    """Steps skipped since the last that was not."""
    evaluated_step: int = -1
    """The step of the last finished evaluation."""
    last_eval: dict[str, Any] = field(default_factory=dict)
    """The row of that evaluation."""
    best_step: Count | None = None
    """The step with the best evaluation."""
    best_score: float | None = None
    """What was best about it: a metric, or a loss with its sign turned."""
    grad_norms: list[float | None] = field(default_factory=list)
    """The clipping window: norm of step s at place s % size; null: not known or not finite."""
    log_offsets: dict[str, Count] = field(default_factory=dict)
    """Bytes of each log file that belong to this state."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What an optimizer step tells; both stay on the device until they are read."""

    norm: Float[Tensor, ""]
    """Gradient norm before clipping."""
    skipped: Bool[Tensor, ""]
    """The norm was not finite, and nothing was changed."""


@runtime_checkable
class Engine(Protocol):
    """Runs forward, backward and step over the devices there are."""

    ranks: Ranks
    device: torch.device
    """Of this rank."""

    def forward(self, batch: Batch, *, grad: bool = True) -> Outputs:
        """Run the objective on a batch of this device's samples."""
        ...

    def backward(self, loss: Float[Tensor, ""], *, last: bool) -> None:
        """Add the gradients of `loss`; `last`: reduce them over the devices now."""
        ...

    def step(self, lr: float, max_norm: Float[Tensor, ""]) -> StepResult:
        """Clip, step, zero; skip all three where the norm is not finite."""
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """The float32 weights by name, gathered; all ranks call it."""
        ...

    def optimizer_state(self) -> Mapping[str, Tensor]:
        """The optimizers' tensors by parameter and state name, gathered; all ranks call it.

        Every engine gives and takes the same names and shapes (`state_files.py`).
        """
        ...

    def load(self, heads: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor]) -> None:
        """Put back `optimizer_state`, and those of `weights` that are not the encoder's."""
        ...
