"""What the Triton kernels of disentangled attention compute of one tile of scores.

A tile is [own, other]: BLOCK positions that a program keeps and BLOCK that it passes by, of the
same sequence. A program keeps queries and passes keys by, or, mirrored, the other way round; then
it reads the tables backwards, and everything else stays as it is.

1. Within a tile the offset of entry (i, j) depends on j - i alone. Its 2 * BLOCK - 1 values are
   consecutive table rows: two blocks of them, `left` and `right`, and (i, j) is row j - i +
   BLOCK - 1 of both together. `right` is the next tile's `left`.
2. Products of states with these blocks are matrix products, on tensor cores, in place of a gathered
   row for each pair. They are [own, table rows] and have to be skewed to [own, other].
3. Of column c of the left and of the right product, every own position needs exactly one: selected
   first, the skew becomes a rotation by i + 1 within a tile of BLOCK columns. So half as much goes
   through shared memory, which is the slow part of it, as if both halves were skewed.
4. Gradients of scores are rotated back, and fall to the left or to the right block by that same
   selection.

DeBERTa: https://arxiv.org/abs/2006.03654
"""
# ruff: noqa: ANN001, ANN201 (arguments are Triton's tensors, pointers and constants)

from typing import no_type_check

import triton
import triton.language as tl

# Natural exponentials as powers of two: that is what the hardware has.
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
@no_type_check
def dot(left, right):
    """Matrix product, summed in fp32; of fp32 without rounding to TF32."""
    return tl.dot(left, right, input_precision="ieee")


@triton.jit
@no_type_check
def sequence_of(row_starts, row):
    """The first token of a row and the number of its tokens."""
    first_token = tl.load(row_starts + row)
    return first_token, tl.load(row_starts + row + 1) - first_token


@triton.jit
@no_type_check
def load_rows(matrix, block, length, STRIDE: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    """A block of the rows of [length, SIZE]; zeros where there are none."""
    rows = block * BLOCK + tl.arange(0, BLOCK)
    pointers = matrix + rows[:, None] * STRIDE + tl.arange(0, SIZE)
    return tl.load(pointers, mask=(rows < length)[:, None], other=0.0)


@triton.jit
@no_type_check
def store_rows(
    matrix, values, block, length, STRIDE: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr
):
    """Write a block of the rows of [length, SIZE], where there are such."""
    rows = block * BLOCK + tl.arange(0, BLOCK)
    pointers = matrix + rows[:, None] * STRIDE + tl.arange(0, SIZE)
    tl.store(pointers, values.to(matrix.dtype.element_ty), mask=(rows < length)[:, None])


@triton.jit
@no_type_check
def load_numbers(numbers, block, length, missing, BLOCK: tl.constexpr):
    """A block of [length]; `missing` where there are none."""
    positions = block * BLOCK + tl.arange(0, BLOCK)
    return tl.load(numbers + positions, mask=positions < length, other=missing)


@triton.jit
@no_type_check
def table_of(table, head, SIZE: tl.constexpr):
    """Where a head's part of a table begins."""
    if table is None:
        return table
    else:  # noqa: RET505 (Triton compiles what follows a plain `if`, too)
        return table + head * SIZE


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
    """The right table block of tiles whose blocks are `distance` apart: other minus own.

    The left one is the right one of `distance - 1`. Row max_length - 1 is that of offset 0.
    """
    rows = max_length + distance * BLOCK + tl.arange(0, BLOCK)
    is_row = (rows >= 0) & (rows < 2 * max_length - 1)
    if MIRRORED:
        rows = 2 * max_length - 2 - rows
    pointers = table + rows[:, None] * STRIDE + tl.arange(0, SIZE)
    return tl.load(pointers, mask=is_row[:, None], other=0.0)


@triton.jit
@no_type_check
def own_side(left, right, BLOCK: tl.constexpr):
    """Of [own, table rows]: what is needed of the right block, elsewhere the left one's."""
    own, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.where(own + column < BLOCK - 1, right, left)


@triton.jit
@no_type_check
def other_side(left, right, BLOCK: tl.constexpr):
    """Of [table rows, other]: what is needed of the right block, elsewhere the left one's."""
    row, other = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.where(row < other, right, left)


@triton.jit
@no_type_check
def skew_own(selected, BLOCK: tl.constexpr):
    """[own, table rows] -> [own, other]."""
    own, other = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.gather(selected, (other - own - 1) & (BLOCK - 1), 1)


@triton.jit
@no_type_check
def unskew_own(tile, BLOCK: tl.constexpr):
    """[own, other] -> [own, table rows]."""
    own, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.gather(tile, (column + own + 1) & (BLOCK - 1), 1)


@triton.jit
@no_type_check
def skew_other(selected, BLOCK: tl.constexpr):
    """[table rows, other] -> [own, other]; its own inverse."""
    own, other = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    return tl.gather(selected, (other - own - 1) & (BLOCK - 1), 0)


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
    """Own states times the right table block of this distance: [own, table rows]."""
    if table is None:
        return tl.zeros([BLOCK, BLOCK], tl.float32)
    else:  # noqa: RET505
        rows = load_table(table, distance, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
        return dot(own, tl.trans(rows))


@triton.jit
@no_type_check
def score_tile(
    own,
    other,
    own_left,
    own_table,
    other_table,
    own_block,
    other_block,
    length,
    max_length,
    scale,
    MIRRORED: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Scores as exponents of two, and the next tile's `own_left`.

    Where the other positions are beyond the sequence they are minus infinity.
    """
    distance = other_block - own_block
    scores = dot(own, tl.trans(other))
    own_right = own_products(own, own_table, distance, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
    if own_table is not None:
        scores += skew_own(own_side(own_left, own_right, BLOCK), BLOCK)
    if other_table is not None:
        left = load_table(other_table, distance - 1, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
        right = load_table(other_table, distance, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
        left, right = dot(left, tl.trans(other)), dot(right, tl.trans(other))
        scores += skew_other(other_side(left, right, BLOCK), BLOCK)
    is_position = other_block * BLOCK + tl.arange(0, BLOCK) < length
    return tl.where(is_position[None, :], scores * (scale * LOG2_E), float("-inf")), own_right


@triton.jit
@no_type_check
def gradient_tile(scores, log_sums, row_sums, grad_weights, factors):
    """Weights after dropout, and gradients of scores before their scale."""
    weights = tl.exp2(scores - log_sums)
    dropped = weights * factors
    return dropped, dropped * grad_weights - weights * row_sums


@triton.jit
@no_type_check
def add_own_gradient(
    grad,
    skewed,
    skewed_before,
    own_table,
    distance,
    max_length,
    MIRRORED: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Add what own positions get from a tile's left table block: this tile's part and the last's.

    Both are gradients of scores, by own positions and table rows.
    """
    rows = load_table(own_table, distance - 1, max_length, MIRRORED, STRIDE, BLOCK, SIZE)
    return grad + dot(own_side(skewed, skewed_before, BLOCK), rows)


@triton.jit
@no_type_check
def mixed(bits):
    """A bijection of 32 bits that changes half of them, on average, for each that is changed."""
    bits ^= bits >> 16
    bits *= 0x7FEB352D
    bits ^= bits >> 15
    bits *= 0x846CA68B
    return bits ^ (bits >> 16)


@triton.jit
@no_type_check
def query_bits(seed, first_token, block, head, HEADS: tl.constexpr, BLOCK: tl.constexpr):
    """32 random bits for each of a block of queries; no other one of the batch has the same."""
    tokens = first_token + block * BLOCK + tl.arange(0, BLOCK)
    words = tl.load(seed)
    upper = mixed((words >> 32).to(tl.uint32))
    return mixed(mixed(words.to(tl.uint32) ^ upper) + (tokens * HEADS + head).to(tl.uint32))


@triton.jit
@no_type_check
def dropout_factors(bits, key_positions, kept_scale, DROP_BELOW: tl.constexpr):
    """Zero for weights that are dropped, from the random bits of their queries."""
    if DROP_BELOW is None:
        return 1.0
    else:  # noqa: RET505
        bits = mixed(bits ^ mixed(key_positions.to(tl.uint32)))
        return tl.where(bits.to(tl.int32, bitcast=True) >= DROP_BELOW, kept_scale, 0.0)
