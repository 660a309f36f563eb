"""The Triton kernels of disentangled attention over rows that lie one after another.

All matrices are [rows, HEADS, SIZE] without gaps: a head's matrix begins head * SIZE elements after
the first one's, and its rows are HEADS * SIZE elements apart.

1. `attention_kernel`: a program keeps a block of queries. Keys pass by, what was summed is corrected
   as larger scores turn up, and the logarithm of the softmax' denominator is written, too
   (FlashAttention-2, https://arxiv.org/abs/2307.08691).
2. `query_gradient_kernel`: the same loop. Scores are computed again, weights are exact at once with
   that logarithm, and dS = P * (dP - rowsum(dO * O)). The row sums are written for the next two.
3. `key_gradient_kernel`: a program keeps a block of keys, queries pass by, tiles are transposed.
4. `table_gradient_kernel`: a program keeps a diagonal of tiles, over its share of the sequences: all
   of them meet the same two blocks of each table, whose gradients stay in registers until the end.

No two programs write to the same place, so that results do not depend on their order. Scores are
computed four times: kept, they would be the only matrix that grows with the square of the length.
"""
# ruff: noqa: ANN001, ANN201 (arguments are Triton's tensors, pointers and constants)

from typing import no_type_check

import triton
import triton.language as tl

from kl3m_embeddings.encoder.attention_tiles import (
    add_own_gradient,
    dot,
    dropout_factors,
    gradient_tile,
    load_numbers,
    load_rows,
    other_side,
    own_products,
    own_side,
    query_bits,
    score_tile,
    sequence_of,
    skew_other,
    store_rows,
    table_of,
    unskew_own,
)


@triton.jit
@no_type_check
def attention_kernel(
    query,
    key,
    value,
    pos_key,
    pos_query,
    row_starts,
    seed,
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
    """Outputs of a block of queries, and log2 of their softmax' denominators, [HEADS, tokens]."""
    STRIDE: tl.constexpr = HEADS * SIZE
    num_blocks = tl.cdiv(max_length, BLOCK)
    first_token, length = sequence_of(row_starts, tl.program_id(0) // num_blocks)
    own_block, head = tl.program_id(0) % num_blocks, tl.program_id(1)
    if own_block * BLOCK >= length:
        return
    base = first_token.to(tl.int64) * STRIDE + head * SIZE
    pos_key, pos_query = table_of(pos_key, head, SIZE), table_of(pos_query, head, SIZE)
    own_position = own_block * BLOCK + tl.arange(0, BLOCK)
    bits = query_bits(seed, first_token, own_block, head, HEADS, BLOCK)[:, None]
    q = load_rows(query + base, own_block, length, STRIDE, BLOCK, SIZE)
    own_left = own_products(q, pos_key, -own_block - 1, max_length, False, STRIDE, BLOCK, SIZE)
    largest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    context = tl.zeros([BLOCK, SIZE], tl.float32)
    for block in range(0, tl.cdiv(length, BLOCK)):
        k = load_rows(key + base, block, length, STRIDE, BLOCK, SIZE)
        v = load_rows(value + base, block, length, STRIDE, BLOCK, SIZE)
        scores, own_left = score_tile(
            q, k, own_left, pos_key, pos_query, own_block, block, length, max_length, scale,
            False, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
        largest_yet = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - largest_yet[:, None])
        correction = tl.exp2(largest - largest_yet)
        total = total * correction + tl.sum(weights, 1)
        position = block * BLOCK + tl.arange(0, BLOCK)[None, :]
        weights *= dropout_factors(bits, position, kept_scale, DROP_BELOW)
        context = context * correction[:, None] + dot(weights.to(v.dtype), v)
        largest = largest_yet
    store_rows(output + base, context / total[:, None], own_block, length, STRIDE, BLOCK, SIZE)
    log_sums += head * num_tokens + first_token + own_position
    tl.store(log_sums, largest + tl.log2(total), mask=own_position < length)


@triton.jit
@no_type_check
def query_gradient_kernel(
    query,
    key,
    value,
    pos_key,
    pos_query,
    row_starts,
    seed,
    log_sums,
    grad_output,
    row_sums,
    output,
    grad_query,
    num_tokens,
    max_length,
    scale,
    kept_scale,
    DROP_BELOW: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of a block of queries, and the row sums of dO * O, [HEADS, tokens]."""
    STRIDE: tl.constexpr = HEADS * SIZE
    num_blocks = tl.cdiv(max_length, BLOCK)
    first_token, length = sequence_of(row_starts, tl.program_id(0) // num_blocks)
    own_block, head = tl.program_id(0) % num_blocks, tl.program_id(1)
    if own_block * BLOCK >= length:
        return
    base = first_token.to(tl.int64) * STRIDE + head * SIZE
    pos_key, pos_query = table_of(pos_key, head, SIZE), table_of(pos_query, head, SIZE)
    own_position = own_block * BLOCK + tl.arange(0, BLOCK)
    bits = query_bits(seed, first_token, own_block, head, HEADS, BLOCK)[:, None]
    q = load_rows(query + base, own_block, length, STRIDE, BLOCK, SIZE)
    own_left = own_products(q, pos_key, -own_block - 1, max_length, False, STRIDE, BLOCK, SIZE)
    grad_o = load_rows(grad_output + base, own_block, length, STRIDE, BLOCK, SIZE)
    o = load_rows(output + base, own_block, length, STRIDE, BLOCK, SIZE)
    row_sum = tl.sum(grad_o.to(tl.float32) * o.to(tl.float32), 1)
    of_head = head * num_tokens + first_token
    tl.store(row_sums + of_head + own_position, row_sum, mask=own_position < length)
    log_sum = load_numbers(log_sums + of_head, own_block, length, float("inf"), BLOCK)
    num_keys = tl.cdiv(length, BLOCK)
    grad = tl.zeros([BLOCK, SIZE], tl.float32)
    nothing = tl.zeros([BLOCK, BLOCK], q.dtype)
    skewed_before = nothing
    for block in range(0, num_keys):
        k = load_rows(key + base, block, length, STRIDE, BLOCK, SIZE)
        v = load_rows(value + base, block, length, STRIDE, BLOCK, SIZE)
        scores, own_left = score_tile(
            q, k, own_left, pos_key, pos_query, own_block, block, length, max_length, scale,
            False, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
        position = block * BLOCK + tl.arange(0, BLOCK)[None, :]
        factors = dropout_factors(bits, position, kept_scale, DROP_BELOW)
        grad_weights = dot(grad_o, tl.trans(v))
        _, grad_scores = gradient_tile(
            scores, log_sum[:, None], row_sum[:, None], grad_weights, factors
        )
        grad_scores = grad_scores.to(k.dtype)
        grad += dot(grad_scores, k)
        if pos_key is not None:
            skewed = unskew_own(grad_scores, BLOCK)
            grad = add_own_gradient(
                grad, skewed, skewed_before, pos_key, block - own_block, max_length,
                False, STRIDE, BLOCK, SIZE,
            )  # fmt: skip
            skewed_before = skewed
    if pos_key is not None:
        grad = add_own_gradient(
            grad, nothing, skewed_before, pos_key, num_keys - own_block, max_length,
            False, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
    store_rows(grad_query + base, grad * scale, own_block, length, STRIDE, BLOCK, SIZE)


@triton.jit
@no_type_check
def key_gradient_kernel(
    query,
    key,
    value,
    pos_key,
    pos_query,
    row_starts,
    seed,
    log_sums,
    grad_output,
    row_sums,
    grad_key,
    grad_value,
    num_tokens,
    max_length,
    scale,
    kept_scale,
    DROP_BELOW: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of a block of keys and values."""
    STRIDE: tl.constexpr = HEADS * SIZE
    num_blocks = tl.cdiv(max_length, BLOCK)
    first_token, length = sequence_of(row_starts, tl.program_id(0) // num_blocks)
    own_block, head = tl.program_id(0) % num_blocks, tl.program_id(1)
    if own_block * BLOCK >= length:
        return
    base = first_token.to(tl.int64) * STRIDE + head * SIZE
    pos_key, pos_query = table_of(pos_key, head, SIZE), table_of(pos_query, head, SIZE)
    own_position = own_block * BLOCK + tl.arange(0, BLOCK)
    k = load_rows(key + base, own_block, length, STRIDE, BLOCK, SIZE)
    v = load_rows(value + base, own_block, length, STRIDE, BLOCK, SIZE)
    own_left = own_products(k, pos_query, -own_block - 1, max_length, True, STRIDE, BLOCK, SIZE)
    of_head = head * num_tokens + first_token
    num_queries = tl.cdiv(length, BLOCK)
    grad_k = tl.zeros([BLOCK, SIZE], tl.float32)
    grad_v = tl.zeros([BLOCK, SIZE], tl.float32)
    nothing = tl.zeros([BLOCK, BLOCK], k.dtype)
    skewed_before = nothing
    for block in range(0, num_queries):
        q = load_rows(query + base, block, length, STRIDE, BLOCK, SIZE)
        grad_o = load_rows(grad_output + base, block, length, STRIDE, BLOCK, SIZE)
        scores, own_left = score_tile(
            k, q, own_left, pos_query, pos_key, own_block, block, length, max_length, scale,
            True, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
        log_sum = load_numbers(log_sums + of_head, block, length, float("inf"), BLOCK)
        row_sum = load_numbers(row_sums + of_head, block, length, 0.0, BLOCK)
        bits = query_bits(seed, first_token, block, head, HEADS, BLOCK)[None, :]
        factors = dropout_factors(bits, own_position[:, None], kept_scale, DROP_BELOW)
        grad_weights = dot(v, tl.trans(grad_o))
        weights, grad_scores = gradient_tile(
            scores, log_sum[None, :], row_sum[None, :], grad_weights, factors
        )
        grad_v += dot(weights.to(q.dtype), grad_o)
        grad_scores = grad_scores.to(q.dtype)
        grad_k += dot(grad_scores, q)
        if pos_query is not None:
            skewed = unskew_own(grad_scores, BLOCK)
            grad_k = add_own_gradient(
                grad_k, skewed, skewed_before, pos_query, block - own_block, max_length,
                True, STRIDE, BLOCK, SIZE,
            )  # fmt: skip
            skewed_before = skewed
    if pos_query is not None:
        grad_k = add_own_gradient(
            grad_k, nothing, skewed_before, pos_query, num_queries - own_block, max_length,
            True, STRIDE, BLOCK, SIZE,
        )  # fmt: skip
    store_rows(grad_key + base, grad_k * scale, own_block, length, STRIDE, BLOCK, SIZE)
    store_rows(grad_value + base, grad_v, own_block, length, STRIDE, BLOCK, SIZE)


@triton.jit
@no_type_check
def store_parts(
    parts,
    left,
    right,
    num_blocks,
    scale,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write a program's sums of `table_gradient_kernel` to its place."""
    diagonal, head, share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_table_rows = 2 * num_blocks * BLOCK
    parts += (2 * share).to(tl.int64) * num_table_rows * STRIDE + head * SIZE
    store_rows(parts, left * scale, diagonal, num_table_rows, STRIDE, BLOCK, SIZE)
    parts += num_table_rows * STRIDE
    store_rows(parts, right * scale, diagonal + 1, num_table_rows, STRIDE, BLOCK, SIZE)


@triton.jit
@no_type_check
def table_gradient_kernel(
    query,
    key,
    value,
    pos_key,
    pos_query,
    row_starts,
    seed,
    log_sums,
    grad_output,
    row_sums,
    grad_pos_key,
    grad_pos_query,
    num_rows,
    num_tokens,
    max_length,
    scale,
    kept_scale,
    DROP_BELOW: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Parts of the tables' gradients: [shares, left and right, rows of table blocks, HEADS, SIZE].

    The first table block is the left one of the first diagonal.
    """
    STRIDE: tl.constexpr = HEADS * SIZE
    diagonal, head, share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_blocks = tl.cdiv(max_length, BLOCK)
    distance = diagonal - num_blocks + 1
    pos_key, pos_query = table_of(pos_key, head, SIZE), table_of(pos_query, head, SIZE)
    key_left = tl.zeros([BLOCK, SIZE], tl.float32)
    key_right = tl.zeros([BLOCK, SIZE], tl.float32)
    query_left = tl.zeros([BLOCK, SIZE], tl.float32)
    query_right = tl.zeros([BLOCK, SIZE], tl.float32)
    nothing = tl.zeros([BLOCK, BLOCK], query.dtype.element_ty)
    for row in range(share, num_rows, tl.num_programs(2)):
        first_token, length = sequence_of(row_starts, row)
        base = first_token.to(tl.int64) * STRIDE + head * SIZE
        first_block = tl.maximum(0, -distance)
        for block in range(first_block, first_block + tl.cdiv(length, BLOCK) - tl.abs(distance)):
            key_block = block + distance
            q = load_rows(query + base, block, length, STRIDE, BLOCK, SIZE)
            k = load_rows(key + base, key_block, length, STRIDE, BLOCK, SIZE)
            v = load_rows(value + base, key_block, length, STRIDE, BLOCK, SIZE)
            grad_o = load_rows(grad_output + base, block, length, STRIDE, BLOCK, SIZE)
            left = own_products(q, pos_key, distance - 1, max_length, False, STRIDE, BLOCK, SIZE)
            scores, _ = score_tile(
                q, k, left, pos_key, pos_query, block, key_block, length, max_length, scale,
                False, STRIDE, BLOCK, SIZE,
            )  # fmt: skip
            of_head = head * num_tokens + first_token
            log_sum = load_numbers(log_sums + of_head, block, length, float("inf"), BLOCK)
            row_sum = load_numbers(row_sums + of_head, block, length, 0.0, BLOCK)
            bits = query_bits(seed, first_token, block, head, HEADS, BLOCK)[:, None]
            key_position = key_block * BLOCK + tl.arange(0, BLOCK)[None, :]
            factors = dropout_factors(bits, key_position, kept_scale, DROP_BELOW)
            _, grad_scores = gradient_tile(
                scores, log_sum[:, None], row_sum[:, None], dot(grad_o, tl.trans(v)), factors
            )
            grad_scores = grad_scores.to(q.dtype)
            if pos_key is not None:
                skewed = unskew_own(grad_scores, BLOCK)
                key_left += dot(tl.trans(own_side(skewed, nothing, BLOCK)), q)
                key_right += dot(tl.trans(own_side(nothing, skewed, BLOCK)), q)
            if pos_query is not None:
                skewed = skew_other(grad_scores, BLOCK)
                query_left += dot(other_side(skewed, nothing, BLOCK), k)
                query_right += dot(other_side(nothing, skewed, BLOCK), k)
    if pos_key is not None:
        store_parts(grad_pos_key, key_left, key_right, num_blocks, scale, STRIDE, BLOCK, SIZE)
    if pos_query is not None:
        store_parts(grad_pos_query, query_left, query_right, num_blocks, scale, STRIDE, BLOCK, SIZE)
