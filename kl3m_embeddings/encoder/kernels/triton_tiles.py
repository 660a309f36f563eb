"""What the Triton kernels of disentangled attention compute of one tile of scores.

    S[q, k] = (Q[q]·K[k] + Q[q]·PK[q-k] + K[k]·PQ[q-k]) * scale

A tile is [own, other]: BLOCK positions that a program keeps and BLOCK that it passes by, of the
same row of tokens. A program keeps queries and passes keys by or, mirrored, the other way round:
then it reads the tables backwards, and everything else stays as it is.

1. Within a tile the offset of entry (i, j) depends on j - i alone. Its 2 * BLOCK - 1 values are
   consecutive table rows: in two blocks of them, `left` and `right`, entry (i, j) has row
   j - i + BLOCK - 1 of both together. `right` is the next tile's `left`.
2. Products of states with these blocks are matrix products, for tensor cores, in place of a
   gathered row for each pair. They are [own, table rows] and have to be skewed to [own, other].
3. Of column c of the left and column c of the right product, each own position needs one. Selected
   first, what is left of the skew is a rotation by i + 1 among BLOCK columns: half as much goes
   through shared memory, which is what limits it, as if both products were skewed.

With BLOCK = 4, left having rows 0 to 3 and right 4 to 7 (`skew_own`):

    wanted, row j - i + 3    selected, column c    then rotated right by i + 1
    i = 0:  3 4 5 6          4 5 6 3               3 4 5 6
    i = 1:  2 3 4 5          4 5 2 3               2 3 4 5
    i = 2:  1 2 3 4          4 1 2 3               1 2 3 4
    i = 3:  0 1 2 3          0 1 2 3               0 1 2 3

`distance`, the first other position minus the first own one, is a multiple of BLOCK. Indices of the
skew hold it although it vanishes modulo BLOCK: otherwise they were constant, and the compiler would
keep them in registers during the whole loop, which has none to spare.

Dimensions: B is BLOCK, D is SIZE, that of a head; own, other and table rows are B each. Matrices in
memory have rows of D, `stride` or STRIDE elements apart.

DeBERTa: https://arxiv.org/abs/2006.03654
"""
# ruff: noqa: ANN001, ANN201 (arguments are Triton's tensors, pointers and constants)

from typing import no_type_check

import triton
import triton.language as tl

# Exponentials are powers of two: that is what the hardware has.
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
@no_type_check
def dot(left, right):
    """A matrix product, summed in fp32; of fp32 without rounding to TF32 (10 bits)."""
    return tl.dot(left, right, input_precision="ieee")


@triton.jit
@no_type_check
def load_rows(matrix, first, end, stride, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    """Rows of SIZE from `first` on, BLOCK of them, BxD; zeros from `end` on."""
    rows = first + tl.arange(0, BLOCK)
    pointers = matrix + rows.to(tl.int64)[:, None] * stride + tl.arange(0, SIZE)
    return tl.load(pointers, mask=(rows < end)[:, None], other=0.0)


@triton.jit
@no_type_check
def store_rows(matrix, values, first, end, stride, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    """Write rows of SIZE from `first` on, BLOCK of them, but none from `end` on."""
    rows = first + tl.arange(0, BLOCK)
    pointers = matrix + rows.to(tl.int64)[:, None] * stride + tl.arange(0, SIZE)
    tl.store(pointers, values.to(matrix.dtype.element_ty), mask=(rows < end)[:, None])


@triton.jit
@no_type_check
def of_head(table, head, SIZE: tl.constexpr):
    """Where a head's part of a table begins."""
    if table is None:
        return table
    else:  # noqa: RET505 (Triton compiles what follows an `if` without it, too)
        return table + head * SIZE


@triton.jit
@no_type_check
def table_rows(distance, max_length, MIRRORED: tl.constexpr, BLOCK: tl.constexpr):
    """Of the right table block of tiles at this distance; the left one is that of a BLOCK less.

    Row max_length - 1 is that of offset 0. Entry (i, j) has offset other - own = distance + j - i
    and, where own are queries, row max_length - 1 + distance + j - i; the right block begins with
    that of j = i + 1. Mirrored, the offset's sign is the other one, and rows run backwards from
    the table's end. Second, which of them exist.
    """
    rows = max_length + distance + tl.arange(0, BLOCK)
    if MIRRORED:
        rows = 2 * max_length - 2 - rows
    return rows[:, None], ((rows >= 0) & (rows < 2 * max_length - 1))[:, None]


@triton.jit
@no_type_check
def load_table(
    table,
    distance,
    max_length,
    MIRRORED: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The right table block of tiles at this distance, BxD; zeros where the table has no row."""
    rows, is_row = table_rows(distance, max_length, MIRRORED, BLOCK)
    return tl.load(table + rows * STRIDE + tl.arange(0, SIZE), mask=is_row, other=0.0)


@triton.jit
@no_type_check
def store_table(
    table,
    values,
    distance,
    max_length,
    MIRRORED: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write the right table block of tiles at this distance, where the table has rows."""
    rows, is_row = table_rows(distance, max_length, MIRRORED, BLOCK)
    tl.store(table + rows * STRIDE + tl.arange(0, SIZE), values, mask=is_row)


@triton.jit
@no_type_check
def own_products(
    own,
    table,
    distance,
    max_length,
    MIRRORED: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Own states times the left table block of tiles at this distance: [own, table rows]."""
    if table is None:
        return tl.zeros([BLOCK, BLOCK], tl.float32)
    else:  # noqa: RET505
        rows = load_table(table, distance - BLOCK, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
        return dot(own, tl.trans(rows))


@triton.jit
@no_type_check
def skew_own(left, right, distance, BLOCK: tl.constexpr):
    """Products of own states, each [own, table rows] -> [own, other]; an example is above."""
    # Column c = j - i - 1 (mod B) is right's where j > i, that is i + c < B - 1, else left's.
    own, column = tl.arange(0, BLOCK)[:, None], distance + tl.arange(0, BLOCK)[None, :]
    selected = tl.where(own + column < distance + BLOCK - 1, right, left)
    return tl.gather(selected, (column - own - 1) & (BLOCK - 1), 1)


@triton.jit
@no_type_check
def skew_other(left, right, distance, BLOCK: tl.constexpr):
    """Products of other states, each [table rows, other] -> [own, other]."""
    # The same in columns: row r = j - i - 1 (mod B) is right's where r < j, else left's.
    row, other = tl.arange(0, BLOCK)[:, None], distance + tl.arange(0, BLOCK)[None, :]
    selected = tl.where(row + distance < other, right, left)
    return tl.gather(selected, (other - row - 1) & (BLOCK - 1), 0)


@triton.jit
@no_type_check
def layout_of_scores(head, num_tokens, max_length, BLOCK: tl.constexpr):
    """Of [HEADS, tokens, positions]: the number of positions, and of scores before a head's."""
    num_positions = tl.cdiv(max_length, BLOCK) * BLOCK
    return num_positions, head.to(tl.int64) * num_tokens * num_positions


@triton.jit
@no_type_check
def load_skewed(scores, first, end, position, num_positions, width, BLOCK: tl.constexpr):
    """[own, table rows] from [tokens, positions]; `position` is that of the first of both.

    From one own token to the next, a table row belongs to the next position: entry (i, c) is that
    of token first + i and position position + i + c.
    """
    own, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    token, positions = first + own, position + own + column
    is_score = (token < end) & (positions >= 0) & (positions < width)
    pointers = scores + token.to(tl.int64) * num_positions + positions
    return tl.load(pointers, mask=is_score, other=0.0)


@triton.jit
@no_type_check
def score_tile(
    own,
    other,
    own_left,
    own_table,
    other_table,
    distance,
    max_length,
    MIRRORED: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Scores before their scale, [own, other], and the next tile's `own_left`."""
    scores = tl.zeros([BLOCK, BLOCK], tl.float32)
    if other_table is not None:
        left = load_table(other_table, distance - BLOCK, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
        right = load_table(other_table, distance, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
        left, right = dot(left, tl.trans(other)), dot(right, tl.trans(other))
        scores += skew_other(left, right, distance, BLOCK)
    own_right = own_products(
        own, own_table, distance + BLOCK, max_length, MIRRORED, STRIDE, BLOCK, SIZE
    )
    if own_table is not None:
        scores += skew_own(own_left, own_right, distance, BLOCK)
    # Last, so that what follows is laid out like a product and not like what was skewed.
    return tl.dot(own, tl.trans(other), scores, input_precision="ieee"), own_right


@triton.jit
@no_type_check
def mixed(bits):
    """`mixed` of `dropout.py`, of unsigned integers."""
    bits ^= bits >> 16
    bits *= 0x7FEB352D
    bits ^= bits >> 15
    bits *= 0x846CA68B
    return bits ^ (bits >> 16)


@triton.jit
@no_type_check
def are_keys(is_key, tokens, end):
    """Which of the tokens may be attended to: those before `end`, but for the masked ones."""
    if is_key is None:
        return tokens < end
    else:  # noqa: RET505
        return tl.load(is_key + tokens, mask=tokens < end, other=0) != 0


@triton.jit
@no_type_check
def query_bits(dropout_keys, tokens, end, head):
    """32 random bits for each query token in a head: the hash of a row in `dropout.py`.

    A function in place of a stream of numbers: forward has programs of queries, backward of keys,
    and both have to find the same weights dropped.
    """
    if dropout_keys is None:
        return tokens
    else:  # noqa: RET505
        keys = tl.load(dropout_keys + tokens, mask=tokens < end, other=0)
        return mixed((keys + head).to(tl.uint32, bitcast=True))


@triton.jit
@no_type_check
def dropout_factors(bits, key_positions, kept_scale, DROP_BELOW: tl.constexpr):
    """Zero for weights that are dropped, from the random bits of their queries."""
    if DROP_BELOW is None:
        return 1.0
    else:  # noqa: RET505
        # Both are mixed already, and the comparison needs good upper bits only: half of `mixed`.
        bits = (bits ^ mixed(key_positions.to(tl.uint32))) * 0x7FEB352D
        bits = (bits ^ (bits >> 15)) * 0x846CA68B
        return tl.where(bits.to(tl.int32, bitcast=True) >= DROP_BELOW, kept_scale, 0.0)
