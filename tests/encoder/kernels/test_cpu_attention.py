"""Without positions it is torch's attention; with them, `deberta/test_attention.py` defines it."""

import pytest
import torch
import torch.nn.functional as F

from kl3m_embeddings.encoder.kernels import cpu_attention
from kl3m_embeddings.encoder.kernels.cpu_attention import (
    DisentangledAttentionCPU,
    attend,
    band_shape,
    by_head,
    by_sequence,
    groups,
    shifted,
)
from kl3m_embeddings.encoder.kernels.dropout import is_dropped, mixed

BATCH, LENGTH, HEADS, SIZE = 5, 6, 3, 4


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("num_scores", [1, 250, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_positions_it_is_scaled_dot_product_attention(monkeypatch, num_scores, dtype):
    monkeypatch.setattr(cpu_attention, "NUM_SCORES_AT_ONCE", num_scores)
    states = [
        normal(BATCH, LENGTH, HEADS, SIZE, seed=n, dtype=dtype).requires_grad_() for n in range(3)
    ]
    tables = [torch.zeros(HEADS, 2 * LENGTH - 1, SIZE, dtype=dtype) for _ in range(2)]
    allowed = torch.arange(LENGTH) < torch.tensor([6, 3, 1, 5, 6])[:, None]
    bias = torch.zeros(BATCH, 1, LENGTH, dtype=dtype).masked_fill(
        ~allowed[:, None], torch.finfo(dtype).min
    )
    ours = DisentangledAttentionCPU.apply(*states, *tables, bias, 0.3, 0.0, None)
    theirs = F.scaled_dot_product_attention(
        *(one.transpose(1, 2) for one in states), attn_mask=allowed[:, None, None], scale=0.3
    ).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    factors = normal(*ours.shape, seed=9, dtype=dtype)
    for mine, wanted in zip(
        torch.autograd.grad(ours, states, factors),
        torch.autograd.grad(theirs, states, factors),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted)


def test_groups_are_slices_of_the_batch_that_fit(monkeypatch):
    monkeypatch.setattr(cpu_attention, "NUM_SCORES_AT_ONCE", 2 * HEADS * LENGTH**2 + 1)
    states = torch.empty(BATCH, LENGTH, HEADS, SIZE)
    assert [(one.start, one.stop) for one in groups(states)] == [(0, 2), (2, 4), (4, 5)]


def test_heads_first_and_back():
    states = normal(BATCH, LENGTH, HEADS, SIZE)
    matrices = by_head(states)
    assert torch.equal(matrices.view(HEADS, BATCH, LENGTH, SIZE)[2, 4], states[4, :, 2])
    assert torch.equal(by_sequence(matrices, HEADS), states)
    assert band_shape(matrices, HEADS) == (HEADS, BATCH * LENGTH, 2 * LENGTH - 1)


def test_row_i_of_a_shifted_table_begins_i_columns_before_the_middle():
    table = normal(HEADS, BATCH * LENGTH, 2 * LENGTH - 1)
    view = shifted(table, LENGTH)
    assert view.shape == (HEADS * BATCH, LENGTH, LENGTH)
    rows = table.view(-1, LENGTH, 2 * LENGTH - 1)
    for i in range(LENGTH):
        assert torch.equal(view[:, i], rows[:, i, LENGTH - 1 - i : 2 * LENGTH - 1 - i])
    view.zero_()
    assert not shifted(table, LENGTH).any()
    assert table.count_nonzero() == HEADS * BATCH * LENGTH * (LENGTH - 1)  # the rest is untouched


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_what_is_dropped_keeps_its_size_under_another_sign(dtype):
    scores, v = normal(40, 50, 50).to(dtype), normal(40, 50, 4).to(dtype)
    drawn = mixed(torch.arange(2000).int()).view(40, 50)
    _, plain = attend(scores.clone(), v, 0.0, None)
    output, weights = attend(scores.clone(), v, 0.25, drawn)
    assert torch.equal(weights.abs(), plain)
    dropped = is_dropped(drawn.flatten(), 50, 0.25).view(40, 50, 50)
    assert torch.equal(weights.signbit(), dropped)
    torch.testing.assert_close(output, (plain * ~dropped) @ v / 0.75)


def test_where_all_weights_are_dropped_nothing_is_left():
    drawn = mixed(torch.arange(12).int()).view(2, 6)
    output, _ = attend(normal(2, 6, 6), normal(2, 6, 4), 1.0, drawn)
    assert not output.any()
