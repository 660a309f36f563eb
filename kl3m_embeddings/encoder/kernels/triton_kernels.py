"""The Triton kernels of disentangled attention over rows of tokens that lie one after another.

    S[q, k] = (Q[q]·K[k] + Q[q]·PK[q-k] + K[k]·PQ[q-k]) * scale,  P = softmax(S)
    O = dropout(P) V

    dV = dropout(P)' dO,  dS = P * (dropout(dO V') - rowsum(dO * O))
    dQ = (dS K + dS PK) * scale,  dK = (dS' Q + dS' PQ) * scale,  each table along its diagonals

Dimensions: B is BLOCK, D is SIZE of a head, H is HEADS. Matrices are (tokens or offsets)xHxD
without gaps: rows of one head are STRIDE = H * D elements apart. Numbers of queries are Hx(tokens).

1. `attention_kernel`: a program keeps a block of queries. Keys pass by, what was summed is
   corrected as larger scores turn up, and the logarithm of the softmax' denominator is written, too
   (online softmax; FlashAttention-2, https://arxiv.org/abs/2307.08691). Of scores s times log2(e),
   let m be the largest so far, l the sum of 2^(s - m), A that of 2^(s - m) v. A block of keys makes

       m' = max(m, max(s)),  l' = l 2^(m - m') + sum of 2^(s - m'),  A' = A 2^(m - m') + ...

   and the output is A / l. So no row of scores is ever whole, and none goes to memory.
2. `row_sum_kernel`: rowsum(dO * O), for the gradient of the softmax.
3. `score_gradient_kernel`: a program keeps a block of keys, queries pass by. Scores are computed
   again, weights are exact at once with that logarithm, P = 2^(s - m - log2 l), and dS follows. It
   sums the values' gradients, and writes dS and its transpose, in the precision of the inputs.
4. `state_gradient_kernel`: from dS the gradients of a block of queries, from its transpose those of
   a block of keys. To skew a tile that comes from memory is to add to its addresses.
5. `table_gradient_kernel`: likewise those of a block of a table, over a share of the rows.

dS is [HEADS, tokens, positions in the row], of which there are whole blocks, zero beyond the row;
its transpose is by keys and positions of queries. They grow with the square of the length, and
exist for one layer at a time. Without them 4. and 5. would compute and skew all scores again, which
takes several times as long as to read them.
"""
# ruff: noqa: ANN001, ANN201 (arguments are Triton's tensors, pointers and constants)

from typing import no_type_check

import triton
import triton.language as tl

from kl3m_embeddings.encoder.kernels.triton_tiles import (
    LOG2_E,
    are_keys,
    dot,
    dropout_factors,
    layout_of_scores,
    load_rows,
    load_skewed,
    load_table,
    of_head,
    own_products,
    query_bits,
    score_tile,
    store_rows,
    store_table,
)


@triton.jit
@no_type_check
def block_of_program(bounds, max_length, BLOCK: tl.constexpr):
    """Where a program's row starts, its block starts, and its row ends, in tokens."""
    num_blocks = tl.cdiv(max_length, BLOCK)
    row, block = tl.program_id(0) // num_blocks, tl.program_id(0) % num_blocks
    start, end = tl.load(bounds + 2 * row), tl.load(bounds + 2 * row + 1)
    return start, start + block * BLOCK, end


@triton.jit
@no_type_check
def attention_kernel(
    query,
    key,
    value,
    pos_key,
    pos_query,
    bounds,
    is_key,
    dropout_keys,
    output,
    log_sums,
    num_tokens,
    max_length,
    scale,
    kept_scale,
    DROP_BELOW: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Outputs of a block of queries, and log2 of their softmax' denominators."""
    STRIDE: tl.constexpr = HEADS * SIZE
    start, own_first, end = block_of_program(bounds, max_length, BLOCK)
    if own_first >= end:
        return
    head, own_token = tl.program_id(1), own_first + tl.arange(0, BLOCK)
    pos_key, pos_query = of_head(pos_key, head, SIZE), of_head(pos_query, head, SIZE)
    bits = query_bits(dropout_keys, own_token, end, head)[:, None]  # Bx1
    q = load_rows(query + head * SIZE, own_first, end, STRIDE, BLOCK, SIZE)
    own_left = own_products(q, pos_key, start - own_first, max_length, False, STRIDE, BLOCK, SIZE)
    largest = tl.full([BLOCK], float("-inf"), tl.float32)  # m, l and A of the online softmax
    total = tl.zeros([BLOCK], tl.float32)
    context = tl.zeros([BLOCK, SIZE], tl.float32)
    for first in range(start, end, BLOCK):
        token = first + tl.arange(0, BLOCK)
        k = load_rows(key + head * SIZE, first, end, STRIDE, BLOCK, SIZE)
        v = load_rows(value + head * SIZE, first, end, STRIDE, BLOCK, SIZE)
        scores, own_left = score_tile(
            q, k, own_left, pos_key, pos_query, first - own_first, max_length,
            False, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
        # BxB, queries by keys, in units of log2; the first block has a key, so no row is all -inf.
        seen = are_keys(is_key, token, end)[None, :]
        scores = tl.where(seen, scores * (scale * LOG2_E), float("-inf"))
        largest_yet = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - largest_yet[:, None])
        correction = tl.exp2(largest - largest_yet)
        # The denominator has all weights, dropped ones too: dropout comes after the softmax.
        total = total * correction + tl.sum(weights, 1)
        weights *= dropout_factors(bits, (token - start)[None, :], kept_scale, DROP_BELOW)
        context = context * correction[:, None] + dot(weights.to(v.dtype), v)
        largest = largest_yet
    context /= total[:, None]
    store_rows(output + head * SIZE, context, own_first, end, STRIDE, BLOCK, SIZE)
    log_sums += head * num_tokens + own_token
    tl.store(log_sums, largest + tl.log2(total), mask=own_token < end)


@triton.jit
@no_type_check
def row_sum_kernel(
    output,
    grad_output,
    row_sums,
    num_tokens,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """rowsum(dO * O) of a block of tokens."""
    first, head = tl.program_id(0) * BLOCK, tl.program_id(1)
    o = load_rows(output + head * SIZE, first, num_tokens, HEADS * SIZE, BLOCK, SIZE)
    grad_o = load_rows(grad_output + head * SIZE, first, num_tokens, HEADS * SIZE, BLOCK, SIZE)
    token = first + tl.arange(0, BLOCK)
    row_sum = tl.sum(o.to(tl.float32) * grad_o.to(tl.float32), 1)
    tl.store(row_sums + head * num_tokens + token, row_sum, mask=token < num_tokens)


@triton.jit
@no_type_check
def score_gradient_kernel(
    query,
    key,
    value,
    pos_key,
    pos_query,
    bounds,
    is_key,
    dropout_keys,
    log_sums,
    row_sums,
    grad_output,
    grad_value,
    by_query,
    by_key,
    num_tokens,
    max_length,
    scale,
    kept_scale,
    DROP_BELOW: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of a block of values, and of their keys' scores before `scale`."""
    STRIDE: tl.constexpr = HEADS * SIZE
    start, own_first, end = block_of_program(bounds, max_length, BLOCK)
    if own_first >= end:
        return
    head, own_token = tl.program_id(1), own_first + tl.arange(0, BLOCK)
    num_positions, before = layout_of_scores(head, num_tokens, max_length, BLOCK)
    pos_key, pos_query = of_head(pos_key, head, SIZE), of_head(pos_query, head, SIZE)
    k = load_rows(key + head * SIZE, own_first, end, STRIDE, BLOCK, SIZE)
    v = load_rows(value + head * SIZE, own_first, end, STRIDE, BLOCK, SIZE)
    own_left = own_products(k, pos_query, start - own_first, max_length, True, STRIDE, BLOCK, SIZE)
    grad_v = tl.zeros([BLOCK, SIZE], tl.float32)
    seen = are_keys(is_key, own_token, end)[:, None]
    for first in range(start, end, BLOCK):
        token = first + tl.arange(0, BLOCK)
        q = load_rows(query + head * SIZE, first, end, STRIDE, BLOCK, SIZE)
        grad_o = load_rows(grad_output + head * SIZE, first, end, STRIDE, BLOCK, SIZE)
        of_query = head * num_tokens + token  # beyond the row: infinity, so that weights are zero
        log_sum = tl.load(log_sums + of_query, mask=token < end, other=float("inf"))
        row_sum = tl.load(row_sums + of_query, mask=token < end, other=0.0)
        scores, own_left = score_tile(
            k, q, own_left, pos_query, pos_key, first - own_first, max_length,
            True, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
        weights = tl.exp2(scores * (scale * LOG2_E) - log_sum[None, :])  # BxB, keys by queries
        weights = tl.where(seen, weights, 0.0)
        bits = query_bits(dropout_keys, token, end, head)[None, :]
        factors = dropout_factors(bits, (own_token - start)[:, None], kept_scale, DROP_BELOW)
        grad_v += dot((weights * factors).to(q.dtype), grad_o)  # BxB times BxD
        grad = (weights * (factors * dot(v, tl.trans(grad_o)) - row_sum[None, :])).to(q.dtype)
        # The compiler has to know that they are multiples, to write 16 bytes at a time.
        to = by_key + before + tl.multiple_of(first - start, BLOCK)
        store_rows(to, grad, own_first, end, num_positions, BLOCK, BLOCK)
        to = by_query + before + tl.multiple_of(own_first - start, BLOCK)
        store_rows(to, tl.trans(grad), first, end, num_positions, BLOCK, BLOCK)
    store_rows(grad_value + head * SIZE, grad_v, own_first, end, STRIDE, BLOCK, SIZE)


@triton.jit
@no_type_check
def state_gradient_kernel(
    grad_scores,
    other_states,
    own_table,
    bounds,
    grad_own,
    num_tokens,
    max_length,
    scale,
    MIRRORED: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of a block of own states, queries, or keys if mirrored: dS other + dS own_table."""
    STRIDE: tl.constexpr = HEADS * SIZE
    start, own_first, end = block_of_program(bounds, max_length, BLOCK)
    if own_first >= end:
        return
    head = tl.program_id(1)
    num_positions, before = layout_of_scores(head, num_tokens, max_length, BLOCK)
    grad_scores += before
    own_table = of_head(own_table, head, SIZE)
    width = tl.cdiv(end - start, BLOCK) * BLOCK
    grad = tl.zeros([BLOCK, SIZE], tl.float32)
    # Each with its left table block; the last one's right block is the left one of a tile of zeros.
    for position in range(0, width + BLOCK, BLOCK):
        last = tl.where(position < width, end, start)
        tile = load_rows(grad_scores + position, own_first, last, num_positions, BLOCK, BLOCK)
        other = load_rows(other_states + head * SIZE, start + position, end, STRIDE, BLOCK, SIZE)
        grad += dot(tile, other)
        if own_table is not None:
            distance = start + position - own_first - BLOCK
            tile = load_skewed(
                grad_scores, own_first, end, position - BLOCK + 1, num_positions, width, BLOCK
            )
            grad += dot(
                tile, load_table(own_table, distance, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
            )
    store_rows(grad_own + head * SIZE, grad * scale, own_first, end, STRIDE, BLOCK, SIZE)


@triton.jit
@no_type_check
def table_gradient_kernel(
    grad_scores,
    own_states,
    bounds,
    parts,
    num_rows,
    num_tokens,
    max_length,
    scale,
    MIRRORED: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A share's part of the gradients of a block of the own table: (shares)x(offsets)xHxD.

    Of row r of the table, it is the sum of dS[i, j] own[i] over all pairs whose offset is r's. The
    first program's block begins where the left one of the first tile of the last block does: at
    the least offset other - own that there is.
    """
    STRIDE: tl.constexpr = HEADS * SIZE
    head, share = tl.program_id(1), tl.program_id(2)
    num_positions, before = layout_of_scores(head, num_tokens, max_length, BLOCK)
    distance = tl.program_id(0) * BLOCK - num_positions
    grad_scores += before
    grad = tl.zeros([BLOCK, SIZE], tl.float32)
    for row in range(share, num_rows, tl.num_programs(2)):
        start, end = tl.load(bounds + 2 * row), tl.load(bounds + 2 * row + 1)
        width = tl.cdiv(end - start, BLOCK) * BLOCK
        first = start + tl.maximum(0, -distance - BLOCK)
        for own_first in range(first, start + tl.minimum(width, width - distance), BLOCK):
            position = own_first - start + distance + 1
            tile = load_skewed(grad_scores, own_first, end, position, num_positions, width, BLOCK)
            own = load_rows(own_states + head * SIZE, own_first, end, STRIDE, BLOCK, SIZE)
            grad += dot(tl.trans(tile), own)
    parts += share.to(tl.int64) * (2 * max_length - 1) * STRIDE + head * SIZE
    store_table(parts, grad * scale, distance, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
