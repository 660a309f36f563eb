"""Single steps of a tile against their definition; without a GPU in Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from kl3m_embeddings.encoder.kernels.triton_tiles import (
    load_rows,
    load_skewed,
    load_table,
    skew_other,
    skew_own,
    store_rows,
    store_table,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCK, SIZE = 16, 16


@triton.jit
def skew_kernel(left, right, result, distance, OWN: tl.constexpr, BLOCK: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK)[:, None] * BLOCK, tl.arange(0, BLOCK)[None, :]
    one, other = tl.load(left + rows + columns), tl.load(right + rows + columns)
    if OWN:
        skewed = skew_own(one, other, distance, BLOCK)
    else:
        skewed = skew_other(one, other, distance, BLOCK)
    tl.store(result + rows + columns, skewed)


@triton.jit
def rows_kernel(source, target, first, end, BLOCK: tl.constexpr, SIZE: tl.constexpr):
    store_rows(
        target, load_rows(source, first, end, SIZE, BLOCK, SIZE) + 1, first, end, SIZE, BLOCK, SIZE
    )


@triton.jit
def table_kernel(
    table,
    copy,
    distance,
    max_length,
    MIRRORED: tl.constexpr,
    BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
):
    values = load_table(table, distance, max_length, MIRRORED, SIZE, BLOCK, SIZE)
    store_table(copy, values + 1, distance, max_length, MIRRORED, SIZE, BLOCK, SIZE)


@triton.jit
def unskew_kernel(scores, result, first, end, position, num_positions, width, BLOCK: tl.constexpr):
    loaded = load_skewed(scores, first, end, position, num_positions, width, BLOCK)
    rows, columns = tl.arange(0, BLOCK)[:, None] * BLOCK, tl.arange(0, BLOCK)[None, :]
    tl.store(result + rows + columns, loaded)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("distance", [0, BLOCK, -2 * BLOCK])
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "other"])
def test_entry_i_j_has_row_j_minus_i_plus_block_minus_1_of_both_blocks(is_own, distance):
    left, right = random(BLOCK, BLOCK), random(BLOCK, BLOCK, seed=1)
    result = torch.empty_like(left)
    skew_kernel[(1,)](left, right, result, distance, is_own, BLOCK)
    both = torch.cat([left, right], dim=1 if is_own else 0)
    for i in range(BLOCK):
        for j in range(BLOCK):
            row = j - i + BLOCK - 1
            assert result[i, j] == (both[i, row] if is_own else both[row, j]), (i, j)


def test_rows_beyond_the_end_are_neither_read_nor_written():
    source = random(40, SIZE)
    source[37:] = torch.nan
    target = torch.zeros_like(source)
    rows_kernel[(1,)](source, target, 25, 37, BLOCK, SIZE)
    assert torch.equal(target[25:37], source[25:37] + 1)
    assert not target[:25].any() and not target[37:].any()


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("distance", [-2 * BLOCK, -BLOCK, 0, BLOCK])
def test_a_table_block_begins_after_the_offset_of_its_distance(distance, is_mirrored):
    """Row max_length - 1 is offset 0; the right block of distance d has offsets d + 1 and on."""
    max_length = 21
    table = random(2 * max_length - 1, SIZE)
    copy = torch.zeros_like(table)
    table_kernel[(1,)](table, copy, distance, max_length, is_mirrored, BLOCK, SIZE)
    offsets = range(distance + 1, distance + 1 + BLOCK)
    rows = [max_length - 1 + (-one if is_mirrored else one) for one in offsets]
    inside = [row for row in rows if 0 <= row < len(table)]
    expected = torch.zeros_like(table)
    expected[inside] = table[inside] + 1
    assert torch.equal(copy, expected)


def test_scores_are_read_where_a_table_row_meets_each_token():
    num_positions, width, first, end, position = 32, 27, 3, 14, -5
    scores = random(20, num_positions)
    result = torch.full((BLOCK, BLOCK), torch.nan, device=DEVICE)
    unskew_kernel[(1,)](scores, result, first, end, position, num_positions, width, BLOCK)
    for own in range(BLOCK):
        for column in range(BLOCK):
            token, place = first + own, position + own + column
            is_score = token < end and 0 <= place < width
            assert result[own, column] == (scores[token, place] if is_score else 0)
