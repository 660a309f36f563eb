"""Disentangled attention for the CPU: a few sequences at a time, so that scores stay in the cache.

1. For each group of sequences: position scores by two matrix products with the table of offsets,
   read through shifted views and added; content scores accumulated on top; softmax; dropout.
2. Kept for the backward pass is one matrix of weights a head, in which a negative sign marks a
   dropped weight.
3. The backward pass needs, beside products, only dS = W * dW - P * rowsum(dO * O), where W are the
   weights after dropout, P before, and O the output (FlashAttention's identity,
   https://arxiv.org/abs/2205.14135). Gradients of shifted views go through buffers that are zero
   outside the band that every group overwrites.

Tensors of a group are [heads * sequences, ...] where sequences attend and [heads, sequences *
length, ...] where they meet the table.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kl3m_embeddings.encoder.kernels.dropout import sign_of_dropped

Context = Any  # torch's annotation of it knows one saved tensor only

INTEGER_OF_SIZE = {4: torch.int32, 8: torch.int64}

# Scores of this many pairs of positions exist at a time: 4 MB in bf16.
NUM_SCORES_AT_ONCE = 2**21


class DisentangledAttentionCPU(torch.autograd.Function):
    """Attention with both position terms.

    Inputs and output are [batch, length, heads, size]; `pos_key` and `pos_query` are [heads,
    offsets, size], ordered by k-q and by q-k ascending; `bias` is [batch, length or
    1, length].
    """

    @staticmethod
    def forward(
        ctx: Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pos_key: Tensor,
        pos_query: Tensor,
        bias: Tensor | None,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """Attend."""
        num_heads = query.shape[2]
        output = torch.empty_like(query)
        kept_weights = []
        for group in groups(query):
            q, k, v = by_head(query[group]) * scale, by_head(key[group]), by_head(value[group])
            scores = position_scores(q, k, pos_key, pos_query * scale).baddbmm_(q, k.mT)
            if bias is not None:
                scores.view(num_heads, -1, *scores.shape[1:]).add_(bias[group])
            context, weights = attend(scores, v, dropout)
            output[group] = by_sequence(context, num_heads)
            if any(ctx.needs_input_grad):
                kept_weights.append(weights)
        ctx.save_for_backward(query, key, value, pos_key, pos_query, output, *kept_weights)
        ctx.scale, ctx.dropout = scale, dropout
        return output

    @staticmethod
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the five matrices."""
        query, key, value, pos_key, pos_query, output, *kept_weights = ctx.saved_tensors
        num_heads, size = query.shape[2:]
        by_table = (num_heads, -1, size)
        grads = [torch.empty_like(query) for _ in range(3)]
        grad_pos_key = torch.zeros_like(pos_key, dtype=torch.float32)
        grad_pos_query = torch.zeros_like(pos_query, dtype=torch.float32)
        band = query.new_zeros(0)
        for group, weights in zip(groups(query), kept_weights, strict=True):
            q, k, v = by_head(query[group]) * ctx.scale, by_head(key[group]), by_head(value[group])
            grad_context = by_head(grad_output[group])
            row_sums = (grad_context * by_head(output[group])).sum(dim=-1, keepdim=True)
            grad_scores, grad_v = softmax_gradients(weights, v, grad_context, row_sums, ctx.dropout)
            grad_q, grad_k = grad_scores @ k, grad_scores.mT @ q

            if band.shape != (expected := band_shape(q, num_heads)):
                band = query.new_zeros(expected)
            shifted(band, query.shape[1]).copy_(grad_scores)
            grad_q.view(by_table).baddbmm_(band, pos_key)
            grad_pos_key += band.mT @ q.view(by_table)
            shifted(band, query.shape[1]).copy_(grad_scores.mT)
            grad_k.view(by_table).baddbmm_(band, pos_query, alpha=ctx.scale)
            grad_pos_query += band.mT @ k.view(by_table)
            for whole, part in zip(grads, (grad_q * ctx.scale, grad_k, grad_v), strict=True):
                whole[group] = by_sequence(part, num_heads)
        grad_pos_query *= ctx.scale
        tables = grad_pos_key.to(pos_key.dtype), grad_pos_query.to(pos_query.dtype)
        return (*grads, *tables, None, None, None)


def position_scores(q: Tensor, k: Tensor, pos_key: Tensor, pos_query: Tensor) -> Tensor:
    """Content-to-position and position-to-content scores of a group, added."""
    num_heads, length = len(pos_key), q.shape[1]
    q, k = (states.view(num_heads, -1, q.shape[-1]) for states in (q, k))
    # Copied first: adding a transposed view is five times slower than copying and adding.
    scores = shifted(k @ pos_query.mT, length).mT.contiguous()
    return scores.add_(shifted(q @ pos_key.mT, length))


def attend(scores: Tensor, v: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    """A group's outputs, and its weights, which take the place of `scores`."""
    weights = torch.softmax(scores, dim=-1, out=scores)
    if not dropout:
        return torch.bmm(weights, v), weights
    mark_dropped(weights, dropout)
    return torch.bmm(torch.relu(weights), v).mul_(1 / (1 - dropout)), weights


def softmax_gradients(
    signed_weights: Tensor, v: Tensor, grad_context: Tensor, row_sums: Tensor, dropout: float
) -> tuple[Tensor, Tensor]:
    """Gradients of a group's scores and values; `row_sums` are those of dO * O."""
    grad_context = grad_context * (1 / (1 - dropout))
    weights = torch.relu(signed_weights)
    grad_v = weights.mT @ grad_context
    grad_scores = torch.bmm(grad_context, v.mT).mul_(weights)
    return grad_scores.addcmul_(signed_weights.abs(), row_sums, value=-1), grad_v


def groups(states: Tensor) -> Iterator[slice]:
    """Slices of the batch whose scores fit together into the cache."""
    batch, length, num_heads, _ = states.shape
    num_sequences = max(1, NUM_SCORES_AT_ONCE // (num_heads * length * length))
    for start in range(0, batch, num_sequences):
        yield slice(start, min(start + num_sequences, batch))


def by_head(states: Tensor) -> Tensor:
    """[sequences, length, heads, size] -> [heads * sequences, length, size]."""
    return states.permute(2, 0, 1, 3).flatten(0, 1)


def by_sequence(states: Tensor, num_heads: int) -> Tensor:
    """[heads * sequences, length, size] -> [sequences, length, heads, size]."""
    return states.view(num_heads, -1, *states.shape[1:]).permute(1, 2, 0, 3)


def band_shape(states: Tensor, num_heads: int) -> tuple[int, int, int]:
    """[heads, sequences * length, offsets] for states of [heads * sequences, length, size]."""
    num_matrices, length, _ = states.shape
    return num_heads, num_matrices // num_heads * length, 2 * length - 1


def shifted(table_scores: Tensor, length: int) -> Tensor:
    """A view of [heads, sequences * length, offsets] as [heads * sequences, length, length].

    Its row i is the columns length-1-i to 2*length-2-i of row i.
    """
    num_offsets = table_scores.shape[-1]
    num_matrices = table_scores.numel() // (length * num_offsets)
    strides = (length * num_offsets, num_offsets - 1, 1)
    return table_scores.as_strided((num_matrices, length, length), strides, length - 1)


def mark_dropped(weights: Tensor, p: float) -> None:
    """Turn the sign of each of the weights, which are not negative, with probability p."""
    sign = sign_of_dropped(weights.numel(), p).view(weights.shape)
    if weights.itemsize > 2:
        sign = sign.to(INTEGER_OF_SIZE[weights.itemsize]) << (8 * weights.itemsize - 16)
    weights.view(sign.dtype).bitwise_or_(sign)
