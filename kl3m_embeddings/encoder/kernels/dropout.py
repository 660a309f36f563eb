"""Dropout whose random bits are cheap on the CPU.

torch draws one uniform number an element there, which takes longer than the layer it regularises.
Here 15 bits an element are cut out of the 64-bit words of a faster generator, numpy's SFC64, which
torch's own seeds anew for each layer: a probability is met to within 2**-16, and a run that seeds
torch repeats its masks. What is kept is marked by integer operations on those bits, without a
comparison: whether bits < p * 2**15 is the sign of their difference.

SFC64 (PractRand): https://numpy.org/doc/stable/reference/random/bit_generators/sfc64.html
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

BITS = 15  # of an int16: the sixteenth is the sign of differences
ONE = 0x3F80
"""The bits of 1.0 in bfloat16."""


class Dropout(nn.Module):
    """`nn.Dropout`; on the CPU from cheap bits, elsewhere the same kernel."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = float(p)

    @property
    def rate(self) -> float:
        """The probability that is in force: 0 in evaluation."""
        return self.p if self.training else 0.0

    def forward(self, states: Tensor) -> Tensor:
        """Zero each element with probability p and scale the others up to keep the mean."""
        if self.rate == 0:
            return states
        if states.device.type != "cpu" or torch.compiler.is_compiling():
            return nn.functional.dropout(states, self.p)
        kept = kept_or_zero(states.numel(), self.p).view(states.shape)
        return states * kept.to(states.dtype).mul_(1 / (1 - self.p))


def random_bits(count: int) -> Int[Tensor, " count"]:
    """`count` uniform numbers below 2**15, as int16, under a seed from torch's CPU generator."""
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw((count + 3) // 4)  # four int16 a word
    bits: Tensor = torch.from_numpy(words.view(np.int16)[:count]).bitwise_and_(2**BITS - 1)
    return bits


def kept_or_zero(count: int, p: float) -> Float[Tensor, " count"]:
    """bfloat16 zeros with probability p, else ones."""
    # Negative where kept, that is with probability 1 - p. The shift copies the sign to all bits,
    # and `& ONE` leaves those of 1.0, or of 0.0.
    bits = random_bits(count).sub_(2**BITS - round(p * 2**BITS))
    kept: Tensor = bits.bitwise_right_shift_(BITS).bitwise_and_(ONE).view(torch.bfloat16)
    return kept


def sign_of_dropped(count: int, p: float) -> Int[Tensor, " count"]:
    """int16 with the sign bit alone set, with probability p, else 0."""
    # Negative with probability p; -(2**15) is the mask of the sign.
    return random_bits(count).sub_(round(p * 2**BITS)).bitwise_and_(-(2**BITS))
