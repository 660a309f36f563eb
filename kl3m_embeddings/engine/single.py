"""One device: CUDA, MPS or the CPU.

The weights are float32; the computation runs under autocast in the chosen precision. Nothing in a
step waits for the device: clipping and skipping are decided on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.encoder.kernels.dropout import TokenKeys, keyed_by
from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.engine.state_files import flatten_optimizer_state, restore_optimizer_state
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
        self.ranks = Ranks()
        self.objective = objective
        self.optimizers = optimizers
        self.device = device
        self._autocast_dtype = DTYPES[precision]
        # float16 has no room for small gradients; a constant scale, since steps that overflow are
        # skipped and logged like any other non-finite one
        self._loss_scale = FLOAT16_LOSS_SCALE if precision == "float16" else 1.0
        self._call = torch.compile(objective, dynamic=False) if compiled else objective

    def forward(self, batch: Batch, *, grad: bool = True) -> Outputs:
        """Run the objective; dropout is a function of the batch's keys, whenever it is called."""
        self.objective.train(batch.trains)
        with torch.set_grad_enabled(grad), dropout_of(batch, self.device):
            outputs: Outputs = self._call(batch.to(self.device), self._autocast_dtype)
        return outputs

    def backward(self, loss: Float[Tensor, ""], *, last: bool) -> None:
        """Add the gradients of `loss`."""
        (loss * self._loss_scale).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def step(self, lr: float, max_norm: Float[Tensor, ""]) -> StepResult:
        """Clip, step, zero; skip all three where the norm is not finite."""
        set_lr(self.optimizers, lr)
        return clipped_step(self.optimizers, max_norm, self._loss_scale)

    def weights(self) -> Mapping[str, Tensor]:
        """The float32 weights by name."""
        return self.objective.state_dict()

    def optimizer_state(self) -> Mapping[str, Tensor]:
        """The optimizers' tensors by parameter and state name."""
        return flatten_optimizer_state(self.objective, self.optimizers)

    def load(self, heads: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor]) -> None:
        """Put back what `optimizer_state` gave, and the heads' weights."""
        self.objective.load_state_dict(heads, strict=False)
        restore_optimizer_state(self.objective, self.optimizers, optimizer_state)


@torch.no_grad()
def clipped_step(
    optimizers: Sequence[Optimizer], max_norm: Float[Tensor, ""], loss_scale: float = 1.0
) -> StepResult:
    """Clip all gradients to one norm, step, zero; skip all three where the norm is not finite."""
    gradients = [
        with_gradient(parameter)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    norm = torch.nn.utils.get_total_norm(gradients) / loss_scale
    factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0) / loss_scale
    torch._foreach_mul_(gradients, factor)
    skipped = ~norm.isfinite()
    for optimizer in optimizers:
        step_unless(skipped, optimizer)
        optimizer.zero_grad(set_to_none=True)
    return StepResult(norm=norm, skipped=skipped)


def with_gradient(parameter: nn.Parameter) -> Tensor:
    """The parameter's gradient; zeros where the step's task does not reach it.

    Its moments decay then, as they do where gradients lie in one flat buffer (ZeRO).
    """
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@contextmanager
def dropout_of(batch: Batch, device: torch.device) -> Iterator[None]:
    """What a forward pass of the batch drops out is a function of its keys.

    The device's generator is seeded, too, by the first row's key: for the networks of transformers
    that draw from it.
    """
    if batch.row_keys is None or batch.step_key is None:
        yield
        return
    seed_generator(device, int(batch.row_keys[0]) % 2**63)
    row_keys, step_key = (key.to(device) for key in (batch.row_keys, batch.step_key))
    with keyed_by(TokenKeys.of(row_keys, step_key, batch.input_ids.shape[1])):
        yield


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the device's own generator; torch.manual_seed looks up every device, which is slow."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
