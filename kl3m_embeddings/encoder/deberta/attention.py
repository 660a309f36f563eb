"""Disentangled attention: which kernel computes it here, and the formula in torch's operations.

    S[q, k] = (Q[q]·K[k] + Q[q]·PK[q-k] + K[k]·PQ[q-k]) * scale
               content      content to       position to
               to content   position         content

    O = dropout(softmax(S)) V, over the keys of the query's sequence

1. On CUDA in 16 bits: the Triton kernels (`kernels/triton_attention.py`).
2. On the CPU in bfloat16: the C++ kernels (`kernels/native_attention.py`).
3. On the CPU otherwise: torch's operations on a few sequences at a time, with a backward pass of
   their own (`kernels/cpu_attention.py`).
4. Elsewhere, and with one position term: the formula below, through autograd.

None gathers. The position score of query q and key k is entry k - q + L - 1 of row q of Q PK', a
product with the table of all R offsets. In memory that is a matrix whose rows are one element
shorter than the product's: a view with other strides (`shifted`), where a gather would read as many
indices as scores.

Dimensions: B batch, H heads, L length, D size of a head, R = 2 L - 1 offsets.

DeBERTa: https://arxiv.org/abs/2006.03654, section 3.1
"""

from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.encoder.kernels.cpu_attention import DisentangledAttentionCPU
from kl3m_embeddings.encoder.kernels.dropout import bits_of_heads, dropped_out, site_keys
from kl3m_embeddings.encoder.kernels.native_attention import AttentionNative, is_native
from kl3m_embeddings.encoder.kernels.sequences import Sequences


def disentangled_attention(
    query: Float[Tensor, "batch length heads size"],
    key: Float[Tensor, "batch length heads size"],
    value: Float[Tensor, "batch length heads size"],
    pos_key: Float[Tensor, "heads offsets size"] | None,
    pos_query: Float[Tensor, "heads offsets size"] | None,
    sequences: Sequences,
    scale: float,
    dropout: float,
) -> Float[Tensor, "batch length heads size"]:
    """Attend to the tokens of the same sequence.

    `pos_key` and `pos_query` are the projected relative embeddings of each offset q-k, from
    length-1 down to 1-length; `scale` is a factor on the sum of the scores.
    """
    context: Tensor
    keys = site_keys(query) if dropout else None
    if is_fused(query):
        from kl3m_embeddings.encoder.kernels.triton_attention import attend_packed

        context = attend_packed(
            query.flatten(0, 1),
            key.flatten(0, 1),
            value.flatten(0, 1),
            pos_key,
            pos_query,
            sequences.bounds.int(),
            sequences.max_length,
            scale,
            dropout,
            None if keys is None else keys.flatten(),
            is_key=sequences.attention_mask.flatten().to(torch.uint8),
        )
        return context.view(query.shape)
    # By q-k ascending: a row of K PQ' is of one key, and along it q grows, as k does along Q PK'.
    pos_query = None if pos_query is None else pos_query.flip(-2)
    matrices = query, key, value, pos_key, pos_query
    if is_native(query):
        context = AttentionNative.apply(*matrices, sequences, scale, dropout, keys)
        return context
    if query.is_cpu and pos_key is not None and pos_query is not None:
        everything = not sequences.is_packed and bool(sequences.attention_mask.all())
        bias = None if everything else sequences.bias(query.dtype)
        context = DisentangledAttentionCPU.apply(*matrices, bias, scale, dropout, keys)
        return context
    length = query.shape[1]
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))  # BxHxLxD
    scores_BxHxLxL = query @ key.mT
    if pos_key is not None:
        scores_BxHxLxL = scores_BxHxLxL + shifted(query @ pos_key.mT, length)
    if pos_query is not None:
        scores_BxHxLxL = scores_BxHxLxL + shifted(key @ pos_query.mT, length).mT
    scores_BxHxLxL = scores_BxHxLxL * scale + sequences.bias(query.dtype)[:, None]
    weights_BxHxLxL = torch.softmax(scores_BxHxLxL, dim=-1)
    if keys is not None:
        rows = bits_of_heads(keys, query.shape[1])
        weights_BxHxLxL = dropped_out(weights_BxHxLxL, rows.flatten(), dropout)
    return (weights_BxHxLxL @ value).transpose(1, 2)


def is_fused(query: Tensor) -> bool:
    """Whether the kernels for CUDA run here and take heads of this size.

    They would take float32, too, but without tensor cores. Those multiply at least 16 numbers a
    row, and Triton's blocks have sizes of powers of two.
    """
    size = query.shape[-1]
    fits = query.itemsize == 2 and 16 <= size <= 128 and size.bit_count() == 1
    return query.is_cuda and fits and find_spec("triton") is not None


def shifted(
    scores: Float[Tensor, "batch heads length offsets"], length: int
) -> Float[Tensor, "batch heads length length"]:
    """Entry (i, j) of the result is column j - i + length - 1 of row i: a view, no copy.

    A worked example is in `kernels/cpu_attention.py`.
    """
    batch, heads, rows, offsets = scores.shape
    scores = scores.contiguous()
    return scores.as_strided(
        (batch, heads, rows, length),
        (heads * rows * offsets, rows * offsets, offsets - 1, 1),
        scores.storage_offset() + length - 1,
    )
