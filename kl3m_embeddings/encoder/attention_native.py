"""Disentangled attention on the CPU in bfloat16, by the kernels of `native/attention.cpp`.

The formulas are those of `attention_cpu.py`; scores and sums are float32. A row of the batch costs
what its own length asks for. Kept for the backward pass is one matrix of weights a head, in which a
negative sign marks a dropped weight.
"""

from typing import Any

import torch
from torch import Tensor

from kl3m_embeddings.encoder.native_library import run, serves

Context = Any  # torch's annotation of it knows one saved tensor only
SIZE_MULTIPLE, LENGTH_MULTIPLE = 32, 32
FORBIDDEN = -1e30


def is_native(query: Tensor) -> bool:
    """Whether the kernels take a query of this dtype and head size."""
    return query.shape[-1] % SIZE_MULTIPLE == 0 and serves(query)


class DisentangledAttentionNative(torch.autograd.Function):
    """Attention with both position terms.

    Inputs and output are [batch, length, heads, size]; `pos_key` and `pos_query` are [heads,
    offsets, size], ordered by k-q and by q-k ascending.
    """

    @staticmethod
    def forward(
        ctx: Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pos_key: Tensor,
        pos_query: Tensor,
        attention_mask: Tensor,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """Attend."""
        inputs = [one.contiguous() for one in (query, key, value, pos_key, pos_query)]
        batch, length, num_heads, size = query.shape
        lengths, key_bias = bounds(attention_mask)
        output = torch.empty_like(inputs[0])
        weights = None
        if any(ctx.needs_input_grad):
            padded = -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
            weights = output.new_empty(num_heads, batch, padded, padded)
        seed = int(torch.randint(2**63 - 1, ())) if dropout else 0
        shape = (batch, length, num_heads, size)
        tensors = (*inputs, key_bias, lengths, output, weights)
        run("attention_forward", *tensors, *shape, scale, dropout, seed)
        ctx.save_for_backward(*inputs, lengths, output, weights)
        ctx.scale, ctx.dropout = scale, dropout
        return output

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the five matrices."""
        *inputs, lengths, output, weights = ctx.saved_tensors
        grads = [torch.empty_like(one) for one in inputs[:3]]
        tables = [torch.empty_like(one, dtype=torch.float32) for one in inputs[3:]]
        tensors = (*inputs, lengths, output, weights, grad_output.contiguous(), *grads, *tables)
        run("attention_backward", *tensors, *output.shape, ctx.scale, ctx.dropout)
        return (*grads, *(one.to(output.dtype) for one in tables), None, None, None)


def bounds(attention_mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """For each row where its last key ends, and a bias where there are gaps before that."""
    ends = torch.arange(1, attention_mask.shape[1] + 1, dtype=torch.int32)
    lengths = (attention_mask * ends).amax(dim=1)
    if bool((lengths == attention_mask.sum(dim=1)).all()):
        return lengths, None
    bias = torch.zeros(attention_mask.shape).masked_fill_(~attention_mask, FORBIDDEN)
    return lengths, bias
