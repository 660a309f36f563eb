"""Where the sequences of a batch lie: which tokens attend to each other.

Usually a row is one sequence, then padding. A packed row is several documents, one after another;
`bounds` then says where each begins and ends among the batch's flat tokens. In rows of length 6,
`a a a b b .` and `c c c c . .` (two documents and padding, then one) give (0, 3), (3, 5), (6, 10).

Dimensions: B batch, L length of a row, S sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The sequences of one batch. Nothing here waits for a GPU."""

    attention_mask: Bool[Tensor, "batch length"]
    bounds: Int[Tensor, "sequences 2"]
    """Flat positions of each one's first token, and one past its last; none: equal."""
    max_length: int
    """No sequence is longer."""
    is_packed: bool

    @classmethod
    def of(
        cls,
        attention_mask: Bool[Tensor, "batch length"],
        bounds: Int[Tensor, "sequences 2"] | None = None,
    ) -> "Sequences":
        """Those of `bounds`, or each row from its first token to its last."""
        is_packed = bounds is not None
        bounds = row_bounds(attention_mask) if bounds is None else bounds
        return cls(
            attention_mask=attention_mask,
            bounds=bounds,
            max_length=attention_mask.shape[1],
            is_packed=is_packed,
        )

    @classmethod
    def one_after_another(cls, lengths: Sequence[int]) -> "Sequences":
        """Sequences of these lengths that fill one row."""
        sizes = torch.tensor(lengths)
        ends = sizes.cumsum(0)
        return cls(
            attention_mask=torch.ones(1, sum(lengths), dtype=torch.bool),
            bounds=torch.stack([ends - sizes, ends], dim=1),
            max_length=max(lengths),
            is_packed=True,
        )

    @cached_property
    def num_tokens(self) -> int:
        """Tokens of all sequences, masked ones inside included; on a GPU that waits for it."""
        return int((self.bounds[:, 1] - self.bounds[:, 0]).sum())

    @cached_property
    def has_gaps(self) -> bool:
        """Whether tokens inside of a sequence are masked; on a GPU that waits for it."""
        return self.num_tokens != int(self.attention_mask.sum())

    @property
    def are_everything(self) -> bool:
        """Whether no token is outside of them; on a GPU that waits for it."""
        return self.num_tokens == self.attention_mask.numel()

    def bias(self, dtype: torch.dtype) -> Float[Tensor, "batch queries length"]:
        """What is added to scores: the lowest number where no query may attend; `queries` or 1."""
        bias = torch.zeros(self.forbidden.shape, dtype=dtype, device=self.forbidden.device)
        return bias.masked_fill_(self.forbidden, torch.finfo(dtype).min)

    @cached_property
    def forbidden(self) -> Bool[Tensor, "batch queries length"]:
        """Where no query may attend; the same in each layer."""
        masked = ~self.attention_mask[:, None]
        if not self.is_packed:
            return masked
        return (self.sequence_indices[:, None] != self.sequence_indices[:, :, None]) | masked

    @property
    def sequence_indices(self) -> Int[Tensor, "batch length"]:
        """Of each token the index of its sequence; padding has that of the next one."""
        positions = torch.arange(self.attention_mask.numel(), device=self.bounds.device)
        # Bounds may be filled up with (0, 0), which would break the order that a search needs.
        ends = self.bounds[:, 1].cummax(0).values
        return torch.searchsorted(ends, positions, right=True).view(self.attention_mask.shape)


def row_bounds(attention_mask: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch 2"]:
    """Of each row, from the first token that is not masked to the last."""
    batch, length = attention_mask.shape
    mask = attention_mask.int()
    first = mask.argmax(dim=1)
    last = length - mask.flip(1).argmax(dim=1)  # one past it
    offsets = torch.arange(batch, device=mask.device) * length
    has_any = mask.amax(dim=1)  # 0: argmax has found nothing, and the row gets equal bounds
    return torch.stack([offsets + first, offsets + first + (last - first) * has_any], dim=1)
