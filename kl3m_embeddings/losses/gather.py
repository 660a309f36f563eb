"""One tensor from all devices, with gradients: the negatives of every device for every device.

Each device r of R takes the mean loss L_r of its own anchors against all devices' candidates. A
candidate c is then in every device's loss, and its gradient is the sum of what they all send back;
the average of parameter gradients over devices, which data-parallel engines take, makes it the
gradient of the mean over all anchors:

    1/R sum over devices, of their candidates c, of (sum over r of dL_r/dc) dc/dparameters
        = d(1/R sum over r of L_r)/dparameters

torch.distributed's all_gather by itself has no gradient.
"""

import torch
import torch.distributed as dist
from jaxtyping import Num
from torch import Tensor
from torch.autograd.function import FunctionCtx


class _Gather(torch.autograd.Function):
    """Forward, an all-gather of rows; backward, the sum of all devices' gradients of one's own."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def is_distributed() -> bool:
    """Whether there are other devices to gather from."""
    return dist.is_available() and dist.is_initialized()


def gather(tensor: Num[Tensor, " rows *rest"]) -> Num[Tensor, " all_rows *rest"]:
    """The rows of all devices, in the order of ranks; the tensor itself on one device.

    A collective, forward and backward: all devices call it, with equal shapes.
    """
    gathered: Tensor = _Gather.apply(tensor.contiguous()) if is_distributed() else tensor
    return gathered


def first_row(num_rows: int) -> int:
    """Where this device's rows begin in what `gather` makes of `num_rows` a device."""
    return dist.get_rank() * num_rows if is_distributed() else 0
