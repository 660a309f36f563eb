"""One device: CUDA, MPS or the CPU.

The weights are float32; the computation runs under autocast in the chosen precision. Nothing in a
step waits for the device: clipping and skipping are decided on it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.engine.state_files import (
    flatten_optimizer_state,
    read_state,
    restore_optimizer_state,
    write_state,
)
from kl3m_embeddings.optim.build import set_lr, step_unless
from kl3m_embeddings.tasks.base import Outputs
from kl3m_embeddings.tasks.objective import Objective

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
FLOAT16_LOSS_SCALE = 2.0**13


class SingleEngine:
    """Engine over one device."""

    def __init__(
        self,
        objective: Objective,
        optimizers: list[Optimizer],
        *,
        device: torch.device,
        precision: str,
        compiled: bool = False,
    ) -> None:
        """Take over `objective`, whose parameters the `optimizers` hold, already on `device`."""
        self.objective = objective
        self.optimizers = optimizers
        self.device = device
        self._dtype = DTYPES[precision]
        # float16 has no room for small gradients; a constant scale, since steps that overflow are
        # skipped and logged like any other non-finite one
        self._loss_scale = FLOAT16_LOSS_SCALE if precision == "float16" else 1.0
        self._call = torch.compile(objective, dynamic=False) if compiled else objective
        self._parameters = [
            parameter
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]

    def forward(self, batch: Batch, *, grad: bool = True) -> Outputs:
        """Run the objective; a batch's dropout seed makes a second call draw the same masks."""
        self.objective.train(batch.dropout_seed is not None)
        if batch.dropout_seed is not None:
            seed_generator(self.device, batch.dropout_seed)
        with torch.set_grad_enabled(grad), self._autocast():
            outputs: Outputs = self._call(batch.to(self.device))
        return outputs

    def backward(self, loss: Float[Tensor, ""], *, last: bool) -> None:
        """Add the gradients of `loss`."""
        (loss * self._loss_scale).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def step(self, lr: float, max_norm: Float[Tensor, ""]) -> StepResult:
        """Clip, step, zero; skip all three where the norm is not finite."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) / self._loss_scale
        factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0) / self._loss_scale
        torch._foreach_mul_(gradients, factor)
        skipped = ~norm.isfinite()
        set_lr(self.optimizers, lr)
        for optimizer in self.optimizers:
            step_unless(skipped, optimizer)
            optimizer.zero_grad(set_to_none=True)
        return StepResult(norm=norm, skipped=skipped)

    def sum_counts(self, counts: Mapping[str, int]) -> dict[str, float]:
        """One device's counts are the sums."""
        return {name: float(count) for name, count in counts.items()}

    def weights(self) -> Mapping[str, Tensor]:
        """The float32 weights by name."""
        return self.objective.state_dict()

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write optimizer, heads and `state` into the folder `path`."""
        heads = {
            name: tensor
            for name, tensor in self.objective.state_dict().items()
            if not name.startswith("encoder.")
        }
        optimizer = flatten_optimizer_state(self.objective, self.optimizers)
        write_state(path, state, {"heads": heads, "optimizer": optimizer})

    def load(self, path: Path) -> Mapping[str, Any]:
        """Read what `save` wrote; the encoder's weights are those of the folder above."""
        state, tensors = read_state(path, ["heads", "optimizer"])
        self.objective.load_state_dict(tensors["heads"], strict=False)
        restore_optimizer_state(self.objective, self.optimizers, tensors["optimizer"])
        return state

    def _autocast(self) -> AbstractContextManager[None]:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the device's own generator; torch.manual_seed looks up every device, which is slow."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
