"""Dropout whose masks belong to the tokens: the same on one device and on many.

A mask is no stream of numbers, in which each depends on all that were drawn before, but a function:
of the token, of the place in the network, and of the column. Which device has the token, in which
micro-batch, beside which others and with how much padding changes nothing. C++ and Triton compute
the same function (`native/vector.h`, `triton_tiles.py`), and backward passes compute it again.

    token    t = mixed(mixed(lower half of its row's key + position) ^ upper half)
    row      r = mixed(t + site * WEYL + head)
    column   dropped where half_mixed(r ^ mixed(column)), as a number in [0, 1), is below p

All of it in 32 bits, of which `mixed` is a bijection. Sites are numbered as a forward pass comes to
them (`TokenKeys.next_site`). Rows are what columns are numbers of: a token's hidden state, or in
attention its weights in one head, whose columns are the positions of keys.

Where no keys are in force, as in a network that is trained by hand, those of a site come from
torch's generator.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

WEYL = 0x9E3779B9
"""2**32 over the golden ratio: multiples of it lie far apart."""
MULTIPLIERS = 0x7FEB352D, 0x846CA68B - 2**32
"""Of https://nullprogram.com/blog/2018/07/31/, as int32."""
ELEMENTS_AT_ONCE = 2**18
"""Numbers that are hashed together: 1 MB, which stays in a core's cache."""


@dataclass(kw_only=True)
class TokenKeys:
    """What the masks of one forward pass are drawn from."""

    tokens: Int[Tensor, "batch length"]
    """int32: the random bits of each token, of its row and its position there."""
    shared: Int[Tensor, " 1"]
    """int32: of what belongs to no row, such as a table of positions."""
    num_sites: int = 0
    """Sites that have been passed."""

    @classmethod
    def of(
        cls, row_keys: Int[Tensor, " batch"], shared_key: Int[Tensor, " 1"], length: int
    ) -> "TokenKeys":
        """Of rows of `length`, from 64 random bits for each row, and for all of them."""
        positions = torch.arange(length, dtype=torch.int32, device=row_keys.device)
        return cls(
            tokens=token_bits(row_keys[:, None], positions),
            shared=token_bits(shared_key, positions[:1]),
        )

    def next_site(self) -> int:
        """The number of the site that a forward pass has come to."""
        self.num_sites += 1
        return self.num_sites - 1

    def at(self, positions: Int[Tensor, " tokens"]) -> "TokenKeys":
        """Of the tokens at these flat positions, as one row."""
        return replace(self, tokens=self.tokens.flatten()[positions][None])


Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]
_in_force: TokenKeys | None = None


@contextmanager
def keyed_by(keys: TokenKeys | None) -> Iterator[None]:
    """Draw the masks of a forward pass from `keys`; None: from torch's generator."""
    global _in_force
    before, _in_force = _in_force, keys
    try:
        yield
    finally:
        _in_force = before


def keys_in_force() -> TokenKeys | None:
    """Those of the forward pass that runs."""
    return _in_force


def contexts_of_recomputation() -> Contexts:
    """`context_fn` of torch's checkpoint: the second pass has the keys and sites of the first."""
    return nullcontext(), keyed_by(None if _in_force is None else replace(_in_force))


def site_keys(states: Float[Tensor, "batch length *rest"]) -> Int[Tensor, "batch length"]:
    """int32: of what the masks of the site that a pass has come to are made, for each token."""
    keys, shape = _in_force, states.shape[:2]
    if keys is None:
        seed = torch.randint(2**63 - 1, (1,), device=states.device)
        places = torch.arange(shape.numel(), dtype=torch.int32, device=states.device)
        return token_bits(seed, places).view(shape)
    assert keys.tokens.shape == shape
    return at_site(keys.tokens, keys.next_site())


class Dropout(nn.Module):
    """`nn.Dropout`, with masks that belong to tokens."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = float(p)

    @property
    def rate(self) -> float:
        """The probability that is in force: 0 in evaluation."""
        return self.p if self.training else 0.0

    def forward(self, states: Tensor, positions: Int[Tensor, " tokens"] | None = None) -> Tensor:
        """Zero each element with probability p and scale the others up to keep the mean.

        Args:
            states: of the batch's tokens, (batch, length, ...), or weights of their attention,
                (batch, heads, length, length). What has another shape belongs to the batch's rows,
                (batch, ...), or to none.
            positions: flat ones of the tokens that `states` has rows of; None: all.
        """
        if self.rate == 0:
            return states
        if _in_force is None and (not states.is_cpu or torch.compiler.is_compiling()):
            return nn.functional.dropout(states, self.p)
        return dropped_out(states, row_bits(states, positions), self.p)

    def drawn(
        self, states: Tensor, positions: Int[Tensor, " tokens"] | None = None
    ) -> Int[Tensor, " rows"] | None:
        """What kernels make the mask of such rows of; None: there is no dropout."""
        return row_bits(states, positions) if self.rate else None

    def shared(self, states: Tensor) -> Tensor:
        """As `forward`, of what belongs to no row of the batch: a step has one mask of it."""
        if self.rate == 0 or _in_force is None:
            dropped: Tensor = self(states)
            return dropped
        bits = mixed(at_site(_in_force.shared, _in_force.next_site()))
        return dropped_out(states, bits, self.p)


def row_bits(
    states: Tensor, positions: Int[Tensor, " tokens"] | None = None
) -> Int[Tensor, " rows"]:
    """int32: a hash for each row of the states, at the site that a pass has come to."""
    keys, shape = _in_force, states.shape
    if keys is None:
        return mixed(site_keys(states.flatten(0, -2)[None]).flatten())
    tokens = at_site(keys.tokens, keys.next_site())
    batch, length = tokens.shape
    if positions is not None:
        return mixed(tokens.flatten()[positions])
    if len(shape) == 4 and (shape[0], *shape[2:]) == (batch, length, length):
        return bits_of_heads(tokens, shape[1]).flatten()
    if shape[:2] == (batch, length):
        return mixed(tokens.flatten())
    if shape[0] == batch:
        return mixed(tokens[:, 0])
    return mixed(at_site(keys.shared, keys.num_sites - 1))


def bits_of_heads(
    tokens: Int[Tensor, "batch length"], num_heads: int
) -> Int[Tensor, "batch {num_heads} length"]:
    """A hash of each query in each head, from the site's keys."""
    heads = torch.arange(num_heads, dtype=torch.int32, device=tokens.device)
    return mixed(tokens[:, None] + heads[:, None])


def dropped_out(states: Tensor, rows: Int[Tensor, " rows"], p: float) -> Tensor:
    """Dropout of states whose elements are those of `rows`, one row after another."""
    if states.is_cuda and not torch.compiler.is_compiling() and find_spec("triton") is not None:
        from kl3m_embeddings.encoder.kernels.triton_dropout import drop_out

        return drop_out(states, rows, p)
    mask = is_dropped(rows, states.numel() // len(rows), p).view(states.shape)
    return states * mask.logical_not_().to(states.dtype).mul_(kept_scale(p))


def is_dropped(
    rows: Int[Tensor, " rows"], num_columns: int, p: float
) -> Bool[Tensor, "rows {num_columns}"]:
    """Which columns of each row are dropped."""
    columns = mixed(torch.arange(num_columns, dtype=torch.int32, device=rows.device))
    if not rows.is_cpu or torch.compiler.is_compiling():
        return half_mixed(rows[:, None] ^ columns) < drop_below(p)
    mask = torch.empty(len(rows), num_columns, dtype=torch.bool)
    at_once = max(1, ELEMENTS_AT_ONCE // num_columns)
    for first in range(0, len(rows), at_once):
        some = slice(first, first + at_once)
        torch.lt(half_mixed(rows[some, None] ^ columns), drop_below(p), out=mask[some])
    return mask


def drop_below(p: float) -> int:
    """The int32 below which the bits of a dropped number are, with probability p."""
    return min(round(p * 2**32) - 2**31, 2**31 - 1)


def kept_scale(p: float) -> float:
    """What is kept is multiplied by it; where nothing is, by 0."""
    return 1 / (1 - p) if p < 1 else 0.0


def token_bits(
    row_keys: Int[Tensor, "*#shape"], positions: Int[Tensor, "*#shape"]
) -> Int[Tensor, "*shape"]:
    """32 random bits of each position, from the 64 of its row; both broadcast."""
    lower, upper = row_keys.to(torch.int32), (row_keys >> 32).to(torch.int32)
    return mixed(mixed(lower + positions) ^ upper)


def at_site(bits: Int[Tensor, "*shape"], site: int) -> Int[Tensor, "*shape"]:
    """The keys of tokens at a site, to which heads are added."""
    return bits + ((site * WEYL + 2**31) % 2**32 - 2**31)


def mixed(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A bijection of int32: turning any bit of the input turns each of the output half the time."""
    bits = half_mixed(bits ^ upper_bits(bits, 16))
    return bits ^ upper_bits(bits, 16)


def half_mixed(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Half of `mixed`, in place: enough for bits that were mixed, if upper ones are read."""
    bits *= MULTIPLIERS[0]
    bits ^= upper_bits(bits, 15)
    bits *= MULTIPLIERS[1]
    return bits


def upper_bits(bits: Int[Tensor, "*shape"], shift: int) -> Int[Tensor, "*shape"]:
    """int32 shifted right without their sign."""
    return (bits >> shift).bitwise_and_(2 ** (32 - shift) - 1)
