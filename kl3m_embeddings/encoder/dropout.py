"""Dropout whose random bits are cheap on the CPU.

torch draws one uniform number an element there, which takes longer than the layer it regularises.
Here 15 bits an element are cut out of whole 64-bit words of the same, seeded generator: a
probability is met to within 2**-16.
"""

import torch
from jaxtyping import Int
from torch import Tensor, nn

BITS = 15


class Dropout(nn.Module):
    """`nn.Dropout`; on the CPU from cheap bits, elsewhere the same kernel."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = float(p)

    def forward(self, states: Tensor) -> Tensor:
        """Zero each element with probability p and scale the others up to keep the mean."""
        if not self.training or self.p == 0:
            return states
        if states.device.type != "cpu":
            return nn.functional.dropout(states, self.p)
        kept = random_bits(states.numel()) >= round(self.p * 2**BITS)
        factor: Tensor = kept.view(states.shape).to(states.dtype).mul_(1 / (1 - self.p))
        return states * factor


def random_bits(count: int) -> Int[Tensor, "count"]:
    """`count` uniform numbers below 2**15, as int16, from torch's CPU generator."""
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_()
    bits: Tensor = words.view(torch.int16)[:count].bitwise_and_(2**BITS - 1)
    return bits


def sign_of_dropped(count: int, p: float) -> Int[Tensor, "count"]:
    """int16 with the sign bit alone set, with probability p, else 0."""
    return random_bits(count).sub_(round(p * 2**BITS)).bitwise_and_(-(2**BITS))
