"""Attention over rows that lie one after another, without padding between them, on the CPU.

In bfloat16, a kernel takes the rows as they lie (`kernels/native_attention.py`). Where it cannot be
had, and where a window limits how far a query sees:

1. Rows come sorted by length, so that neighbours are alike. Groups of neighbours are spread out to
   one length, a multiple of 32: softmax is slow at other lengths, and oneDNN compiles a matrix
   product for each new shape, so that shapes should be few (`row_groups`).
2. A group's attention is computed as in `kernels/cpu_attention.py`, without position terms.
3. Its results are collected: before and after the attention there is no padding.

The formulas of the backward pass are those of `kernels/cpu_attention.py`.

Dimensions: T tokens of all rows, H heads, D size of a head; of a group N rows, L their length.

A network of transformers finds it under the name `IMPLEMENTATION` and hands on the rows that the
network was called with, as `packed_rows`. Without them it is transformers' own (torch's SDPA), and
with dropout, which has to be the tokens' own, the formula (`padded_attention`). On CUDA it is SDPA
all the same, which keeps no weights, and draws dropout from torch's generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kl3m_embeddings.encoder.kernels.cpu_attention import (
    Context,
    attend,
    bits_of_matrices,
    by_head,
    by_sequence,
    softmax_gradients,
)
from kl3m_embeddings.encoder.kernels.dropout import (
    bits_of_heads,
    dropped_out,
    keys_in_force,
    site_keys,
)
from kl3m_embeddings.encoder.kernels.native_attention import AttentionNative, is_native
from kl3m_embeddings.encoder.kernels.sequences import Sequences

IMPLEMENTATION = "packed"
LENGTH_MULTIPLE = 32
# Scores of this many pairs of positions exist at a time, for each head.
NUM_SCORES_AT_ONCE = 2**17


@dataclass(frozen=True)
class PackedRows:
    """Rows one after another: what is known of them in every layer."""

    lengths: Sequence[int]
    """Longest first; not all are 0."""

    @cached_property
    def sequences(self) -> Sequences:
        """The rows that have tokens, as the C++ kernel takes them."""
        return Sequences.one_after_another([length for length in self.lengths if length])

    @cached_property
    def groups(self) -> "tuple[RowGroup, ...]":
        """The rows as torch's operations take them, spread out in groups."""
        return row_groups(self.lengths)


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Neighbouring rows, and how they are spread out to one length."""

    tokens: slice
    """The group's stretch of the packed tokens."""
    num_rows: int
    length: int
    slots: Int[Tensor, " tokens"] | None
    """Where each token goes among N * L slots; None: in their order, there are as many."""
    is_empty: Bool[Tensor, "rows 1 length"] | None
    """Slots that no query attends to; None: there are none."""

    def spread(
        self, packed: Float[Tensor, "tokens heads size"]
    ) -> Float[Tensor, "matrices length size"]:
        """(H*N)xLxD, with zeros in the empty slots."""
        states = packed[self.tokens]
        if self.slots is not None:
            empty = states.new_zeros(self.num_rows * self.length, *states.shape[1:])
            states = empty.index_copy_(0, self.slots, states)
        return by_head(states.view(self.num_rows, self.length, *states.shape[1:]))

    def drawn(
        self, dropout_keys: Int[Tensor, " all_tokens"], num_heads: int
    ) -> Int[Tensor, "matrices length"]:
        """The bits of each query in each head, from which its dropped weights follow."""
        keys = dropout_keys[self.tokens]
        if self.slots is not None:
            keys = keys.new_zeros(self.num_rows * self.length).index_copy_(0, self.slots, keys)
        return bits_of_matrices(keys.view(self.num_rows, self.length), num_heads)

    def collect(
        self,
        states: Float[Tensor, "matrices length size"],
        packed: Float[Tensor, "tokens heads size"],
    ) -> None:
        """Write (H*N)xLxD to the group's tokens."""
        rows = by_sequence(states, packed.shape[1])  # NxLxHxD
        if self.slots is None:
            packed[self.tokens].view(rows.shape).copy_(rows)
        else:
            torch.index_select(rows.flatten(0, 1), 0, self.slots, out=packed[self.tokens])


def row_groups(lengths: Sequence[int]) -> tuple[RowGroup, ...]:
    """Groups for rows of these lengths, longest first; a row without tokens is in none."""
    groups, row, token = [], 0, 0
    while row < len(lengths) and lengths[row]:
        length = -(-lengths[row] // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        most_rows = max(1, NUM_SCORES_AT_ONCE // length**2)
        # Lengths descend: those that round up to this one are the next rows.
        members = [n for n in lengths[row : row + most_rows] if n > length - LENGTH_MULTIPLE]
        groups.append(row_group(members, length, token))
        row, token = row + len(members), token + sum(members)
    return tuple(groups)


def row_group(lengths: Sequence[int], length: int, first_token: int) -> RowGroup:
    """The group of rows of these lengths, spread out to `length`."""
    tokens = slice(first_token, first_token + sum(lengths))
    filled = torch.arange(length) < torch.tensor(lengths)[:, None]  # NxL
    is_full = bool(filled.all())
    return RowGroup(
        tokens=tokens,
        num_rows=len(lengths),
        length=length,
        slots=None if is_full else filled.flatten().nonzero()[:, 0],
        is_empty=None if is_full else ~filled[:, None],
    )


class PackedAttentionCPU(torch.autograd.Function):
    """Attention of each row to itself; `window`: to keys less than so many positions away."""

    @staticmethod
    def forward(
        ctx: Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        groups: tuple[RowGroup, ...],
        window: int | None,
        scale: float,
        dropout: float,
        dropout_keys: Tensor | None,
    ) -> Tensor:
        """Attend; all are TxHxD, and the site's keys T.

        Spread states are kept, which the backward pass needs again.
        """
        num_heads = query.shape[1]
        output = query.new_empty(query.shape)
        kept = []
        query = query * scale
        for group in groups:
            q, k, v = (group.spread(states) for states in (query, key, value))
            scores = torch.bmm(q, k.mT)  # (H*N)xLxL
            if (bias := score_bias(group, window, scores.dtype)) is not None:
                scores.view(num_heads, -1, *scores.shape[1:]).add_(bias)
            drawn = None if dropout_keys is None else group.drawn(dropout_keys, num_heads)
            context, weights = attend(scores, v, dropout, drawn)
            group.collect(context, output)
            if any(ctx.needs_input_grad):
                kept += [q, k, v, weights]
        ctx.save_for_backward(output, *kept)
        ctx.groups, ctx.scale, ctx.dropout = groups, scale, dropout
        return output

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the three matrices."""
        output, *kept = ctx.saved_tensors
        grads = [output.new_empty(output.shape) for _ in range(3)]
        row_sums = (grad_output * output).sum(dim=-1, keepdim=True)  # TxHx1
        for index, group in enumerate(ctx.groups):
            q, k, v, weights = kept[4 * index : 4 * index + 4]
            grad_context, sums = group.spread(grad_output), group.spread(row_sums)
            grad_scores, grad_v = softmax_gradients(weights, v, grad_context, sums, ctx.dropout)
            grad_q = torch.bmm(grad_scores, k).mul_(ctx.scale)
            grad_k = torch.bmm(grad_scores.mT, q)
            for whole, part in zip(grads, (grad_q, grad_k, grad_v), strict=True):
                group.collect(part, whole)
        return (*grads, None, None, None, None, None)


def score_bias(
    group: RowGroup, window: int | None, dtype: torch.dtype
) -> Float[Tensor, "#rows #length length"] | Float[Tensor, "length length"] | None:
    """What is added to the scores of a group: the lowest number where no query may attend.

    That number is finite: an empty slot's own row may be all forbidden, and must not become NaN.
    """
    forbidden = group.is_empty
    if window is not None and window < group.length:
        positions = torch.arange(group.length)
        is_far = (positions[:, None] - positions).abs() >= window
        forbidden = is_far if forbidden is None else forbidden | is_far
    if forbidden is None:
        return None
    bias = torch.zeros(forbidden.shape, dtype=dtype)
    return bias.masked_fill_(forbidden, torch.finfo(dtype).min)


def padded_attention(
    query: Float[Tensor, "batch heads length size"],
    key: Float[Tensor, "batch heads length size"],
    value: Float[Tensor, "batch heads length size"],
    attention_mask: Tensor | None,
    scale: float,
    dropout: float,
) -> Float[Tensor, "batch length heads size"]:
    """Attention in rows with padding, by its formula; torch's own draws dropout from a stream."""
    scores = (query @ key.mT) * scale
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    drawn = bits_of_heads(site_keys(query.transpose(1, 2)), query.shape[1])
    weights = dropped_out(scores.softmax(-1), drawn.flatten(), dropout)
    return (weights @ value).transpose(1, 2).contiguous()


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads length size"],
    key: Float[Tensor, "batch heads length size"],
    value: Float[Tensor, "batch heads length size"],
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    packed_rows: PackedRows | None = None,
    sliding_window: int | None = None,
    **settings: Any,  # noqa: ANN401
) -> tuple[Float[Tensor, "batch length heads size"], None]:
    """Transformers' interface: a batch of one sequence, all rows one after another."""
    states = [matrix.transpose(1, 2) for matrix in (query, key, value)]
    if packed_rows is None:
        if dropout and keys_in_force() is not None and not query.is_cuda:
            return padded_attention(query, key, value, attention_mask, scaling, dropout), None
        context, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **settings
        )
        return context, None
    keys = site_keys(states[0]).flatten() if dropout else None
    sees_all = sliding_window is None or sliding_window >= packed_rows.lengths[0]
    if sees_all and is_native(states[0]):
        context = AttentionNative.apply(
            *states, None, None, packed_rows.sequences, scaling, dropout, keys
        )
        return context, None
    rows = (matrix[0] for matrix in states)
    limits = packed_rows.groups, sliding_window
    context = PackedAttentionCPU.apply(*rows, *limits, scaling, dropout, keys)
    return context[None], None


AttentionInterface.register(IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
