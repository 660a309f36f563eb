"""Disentangled attention in torch, for the CPU where the native kernel does not serve.

A few sequences at a time, so that scores stay in the cache:

    S[q, k] = (Q[q]·K[k] + Q[q]·PK[q-k] + K[k]·PQ[q-k]) * scale + bias[q, k]
    P = softmax(S),  W = dropout(P),  O = W V

1. For each group of sequences: position scores by two matrix products with the table of offsets,
   read through shifted views and added (`shifted`); content scores accumulated on top; softmax;
   dropout.
2. Kept for the backward pass is one matrix of weights a head, in which a negative sign marks a
   dropped weight: a weight itself is never negative.
3. The backward pass needs, beside products, only dS = W * dW - P * rowsum(dO * O), where dW = dO V'
   (FlashAttention's identity, https://arxiv.org/abs/2205.14135: the softmax' own sum over keys is
   one over D numbers of the output). Gradients of shifted views go through buffers that are zero
   outside the band that every group overwrites.

Dimensions: B batch, L length, H heads, D size of a head, R = 2 L - 1 offsets, N sequences of a
group. Tensors of a group are (H*N)x..., a matrix for each head and sequence, where sequences
attend, and Hx(N*L)x... where they meet the table, which is a head's and not a sequence's. DeBERTa:
https://arxiv.org/abs/2006.03654
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kl3m_embeddings.encoder.kernels.dropout import bits_of_heads, is_dropped, kept_scale

Context = Any  # torch's annotation of it knows one saved tensor only

# Scores of this many pairs of positions exist at a time: 4 MB in bf16.
NUM_SCORES_AT_ONCE = 2**21


class DisentangledAttentionCPU(torch.autograd.Function):
    """Attention with both position terms.

    Inputs and output are BxLxHxD; `pos_key` and `pos_query` are HxRxD, ordered by k-q and by q-k
    ascending; `bias` is Bx(L or 1)xL, of queries and keys.
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
        dropout_keys: Tensor | None,
    ) -> Tensor:
        """Attend, group by group; `dropout_keys` are the site's, BxL."""
        num_heads = query.shape[2]
        output = torch.empty_like(query)
        kept_weights = []
        for group in groups(query):
            q, k, v = by_head(query[group]) * scale, by_head(key[group]), by_head(value[group])
            # (H*N)xLxL; the scale is in q, and so in two of the terms, and in the queries' table.
            scores = position_scores(q, k, pos_key, pos_query * scale).baddbmm_(q, k.mT)
            if bias is not None:
                scores.view(num_heads, -1, *scores.shape[1:]).add_(bias[group])
            drawn = (
                None if dropout_keys is None else bits_of_matrices(dropout_keys[group], num_heads)
            )
            context, weights = attend(scores, v, dropout, drawn)
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
        # Sums over all groups: in float32, rounded once.
        grad_pos_key = torch.zeros_like(pos_key, dtype=torch.float32)
        grad_pos_query = torch.zeros_like(pos_query, dtype=torch.float32)
        band = query.new_zeros(0)
        for group, weights in zip(groups(query), kept_weights, strict=True):
            q, k, v = by_head(query[group]) * ctx.scale, by_head(key[group]), by_head(value[group])
            grad_context = by_head(grad_output[group])
            row_sums = (grad_context * by_head(output[group])).sum(dim=-1, keepdim=True)  # dO * O
            grad_scores, grad_v = softmax_gradients(weights, v, grad_context, row_sums, ctx.dropout)
            grad_q, grad_k = grad_scores @ k, grad_scores.mT @ q

            if band.shape != (expected := band_shape(q, num_heads)):
                band = query.new_zeros(expected)
            # dS, laid out by offset: Hx(N*L)xR.
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
        return (*grads, *tables, None, None, None, None)


def position_scores(
    q: Float[Tensor, "matrices length size"],
    k: Float[Tensor, "matrices length size"],
    pos_key: Float[Tensor, "heads offsets size"],
    pos_query: Float[Tensor, "heads offsets size"],
) -> Float[Tensor, "matrices length length"]:
    """Content-to-position and position-to-content scores of a group, added."""
    num_heads, length = len(pos_key), q.shape[1]
    q, k = (states.view(num_heads, -1, q.shape[-1]) for states in (q, k))  # Hx(N*L)xD
    # Copied first: adding a transposed view is five times slower than copying and adding.
    scores = shifted(k @ pos_query.mT, length).mT.contiguous()
    return scores.add_(shifted(q @ pos_key.mT, length))


def attend(
    scores: Float[Tensor, "matrices length length"],
    v: Float[Tensor, "matrices length size"],
    dropout: float,
    drawn: Int[Tensor, "matrices length"] | None,
) -> tuple[Float[Tensor, "matrices length size"], Float[Tensor, "matrices length length"]]:
    """A group's outputs, and its weights, which take the place of `scores`.

    `drawn` are the bits of each query from which its dropped weights follow.
    """
    weights = torch.softmax(scores, dim=-1, out=scores)
    if drawn is None:
        return torch.bmm(weights, v), weights
    dropped = is_dropped(drawn.flatten(), weights.shape[-1], dropout).view(weights.shape)
    torch.where(dropped, -weights, weights, out=weights)
    return torch.bmm(torch.relu(weights), v).mul_(kept_scale(dropout)), weights


def bits_of_matrices(
    dropout_keys: Int[Tensor, "sequences length"], num_heads: int
) -> Int[Tensor, "matrices length"]:
    """The bits of each query in each head; matrices are those of `by_head`."""
    return bits_of_heads(dropout_keys, num_heads).transpose(0, 1).flatten(0, 1)


def softmax_gradients(
    signed_weights: Float[Tensor, "matrices length length"],
    v: Float[Tensor, "matrices length size"],
    grad_context: Float[Tensor, "matrices length size"],
    row_sums: Float[Tensor, "matrices length 1"],
    dropout: float,
) -> tuple[Float[Tensor, "matrices length length"], Float[Tensor, "matrices length size"]]:
    """Gradients of a group's scores and values; `row_sums` are those of dO * O."""
    grad_context = grad_context * kept_scale(dropout)
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


def by_head(
    states: Float[Tensor, "sequences length heads size"],
) -> Float[Tensor, "matrices length size"]:
    """NxLxHxD -> (H*N)xLxD."""
    return states.permute(2, 0, 1, 3).flatten(0, 1)


def by_sequence(
    states: Float[Tensor, "matrices length size"], num_heads: int
) -> Float[Tensor, "sequences length {num_heads} size"]:
    """(H*N)xLxD -> NxLxHxD."""
    return states.view(num_heads, -1, *states.shape[1:]).permute(1, 2, 0, 3)


def band_shape(states: Tensor, num_heads: int) -> tuple[int, int, int]:
    """Hx(N*L)xR, for states of (H*N)xLxD."""
    num_matrices, length, _ = states.shape
    return num_heads, num_matrices // num_heads * length, 2 * length - 1


def shifted(
    table_scores: Float[Tensor, "heads rows offsets"], length: int
) -> Float[Tensor, "matrices {length} {length}"]:
    """A view of Hx(N*L)xR as (H*N)xLxL: entry (i, j) is column j - i + L - 1 of row i.

    That is a Toeplitz pattern: one row on and one column on, the offset stays. In memory, from row
    i to i + 1 are R - 1 numbers instead of R, and no index is read. With L = 3, of rows of R = 5:

        0  1  2  3  4          2  3  4
        5  6  7  8  9    ->    6  7  8
        10 11 12 13 14        10 11 12
    """
    num_offsets = table_scores.shape[-1]
    num_matrices = table_scores.numel() // (length * num_offsets)
    strides = (length * num_offsets, num_offsets - 1, 1)
    return table_scores.as_strided((num_matrices, length, length), strides, length - 1)
