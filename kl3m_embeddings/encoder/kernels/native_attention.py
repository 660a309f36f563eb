"""Attention on the CPU in bfloat16, by the kernels of `native/attention.cpp`.

That file has the formulas, with position terms or without; scores and sums are float32. A sequence
costs what its own length asks for: each has scores of its own, without padding to the longest. Kept
for the backward pass is one matrix of weights a head and sequence, in which a negative sign marks a
dropped weight.

Dimensions: B batch, L row length, H heads, D size of a head, R = 2 L - 1 offsets, S sequences.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from kl3m_embeddings.encoder.kernels.dropout import drop_below, kept_scale
from kl3m_embeddings.encoder.kernels.native_library import run, serves
from kl3m_embeddings.encoder.kernels.sequences import Sequences

Context = Any  # torch's annotation of it knows one saved tensor only
SIZE_MULTIPLE, LENGTH_MULTIPLE = 32, 32
FORBIDDEN = -1e30


def is_native(query: Tensor) -> bool:
    """Whether the kernels take a query of this dtype and head size."""
    return query.shape[-1] % SIZE_MULTIPLE == 0 and serves(query)


class AttentionNative(torch.autograd.Function):
    """Attention of the tokens of each sequence.

    Inputs and output are BxLxHxD; `pos_key` and `pos_query` are HxRxD, ordered by k-q and by q-k
    ascending, or None where scores lack that term. Outside of the sequences the output is 0.
    """

    @staticmethod
    def forward(
        ctx: Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pos_key: Tensor | None,
        pos_query: Tensor | None,
        sequences: Sequences,
        scale: float,
        dropout: float,
        dropout_keys: Tensor | None,
    ) -> Tensor:
        """Attend; only where something will go backward are the weights kept.

        `dropout_keys` are those of the site, int32, of all tokens; None: there is no dropout.
        """
        inputs = mapped(Tensor.contiguous, (query, key, value, pos_key, pos_query))
        bounds = sequences.bounds.long().contiguous()  # Sx2, flat tokens
        output = empty_or_zero(query, sequences)
        weights = None
        if any(ctx.needs_input_grad):
            # For each head and sequence a square matrix, of the length rounded up.
            padded = -(-(bounds[:, 1] - bounds[:, 0]) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
            weights = output.new_empty(query.shape[2] * int(padded.square().sum()))
        shape = shape_of(query, sequences)
        tensors = (*inputs, key_bias(sequences), bounds, dropout_keys, output, weights)
        run("attention_forward", *tensors, *shape, scale, kept_scale(dropout), drop_below(dropout))
        ctx.save_for_backward(*inputs, bounds, output, weights)
        ctx.sequences, ctx.scale, ctx.dropout = sequences, scale, dropout
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the five matrices."""
        *inputs, bounds, output, weights = ctx.saved_tensors
        grads = [empty_or_zero(matrix, ctx.sequences) for matrix in inputs[:3]]
        # A row of a table sums up the gradients of many scores: in float32, rounded once.
        tables = mapped(partial(torch.empty_like, dtype=torch.float32), inputs[3:])
        shape = shape_of(output, ctx.sequences)
        tensors = (*inputs, bounds, output, weights, grad_output.contiguous(), *grads, *tables)
        run("attention_backward", *tensors, *shape, ctx.scale, kept_scale(ctx.dropout))
        return (
            *grads,
            *mapped(lambda table: table.to(output.dtype), tables),
            None,
            None,
            None,
            None,
        )


def mapped(
    change: Callable[[Tensor], Tensor], tensors: Iterable[Tensor | None]
) -> list[Tensor | None]:
    """Each tensor changed; what is absent stays so."""
    return [None if tensor is None else change(tensor) for tensor in tensors]


def shape_of(
    states: Float[Tensor, "batch length heads size"], sequences: Sequences
) -> tuple[int, ...]:
    """Tokens, sequences, greatest length, heads, size of a head."""
    batch, length, num_heads, size = states.shape
    return batch * length, len(sequences.bounds), sequences.max_length, num_heads, size


def empty_or_zero(
    states: Float[Tensor, "batch length heads size"], sequences: Sequences
) -> Float[Tensor, "batch length heads size"]:
    """A tensor for what is computed of each sequence; zeros where tokens are in none."""
    make = torch.empty if sequences.are_everything else torch.zeros
    return make(states.shape, dtype=states.dtype)


def key_bias(sequences: Sequences) -> Float[Tensor, "batch length"] | None:
    """What is added to the scores of each token as a key; None where none is masked."""
    if not sequences.has_gaps:
        return None
    mask = sequences.attention_mask
    return torch.zeros(mask.shape).masked_fill_(~mask, FORBIDDEN)
