import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.encoder.kernels.dropout import site_keys
from kl3m_embeddings.encoder.stock import attention as module
from kl3m_embeddings.encoder.stock.attention import PackedAttentionCPU, row_groups

LENGTHS = [9, 8, 8, 5, 2, 1]
HEADS, SIZE = 2, 4
SCALE = 0.4


@pytest.fixture(params=[(8, 1), (8, 200), (4, 2**17)], ids=["singly", "uneven", "together"])
def grouping(request, monkeypatch):
    """Some rows fill their slots and some do not, in groups of one and of many rows."""
    multiple, num_scores = request.param
    monkeypatch.setattr(module, "LENGTH_MULTIPLE", multiple)
    monkeypatch.setattr(module, "NUM_SCORES_AT_ONCE", num_scores)


def inputs(dtype=torch.float64, heads=HEADS, size=SIZE, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(0)
    shape = (sum(lengths), heads, size)
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)]
    return [tensor.requires_grad_() for tensor in tensors]


def attend(*tensors, window=None, dropout=0.0, lengths=LENGTHS):
    keys = site_keys(tensors[0][None]).flatten() if dropout else None
    return PackedAttentionCPU.apply(*tensors, row_groups(lengths), window, SCALE, dropout, keys)


def weights_by_definition(query, key, window=None, lengths=LENGTHS):
    """All tokens against all, where they are of one row and near enough."""
    rows = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    positions = torch.cat([torch.arange(length) for length in lengths])
    is_allowed = rows[:, None] == rows
    if window is not None:
        is_allowed &= (positions[:, None] - positions).abs() < window
    scores = torch.einsum("qhd,khd->hqk", query, key) * SCALE
    return scores.masked_fill(~is_allowed, -math.inf).softmax(-1)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.usefixtures("grouping")
def test_output_and_gradients_follow_the_definition(window):
    query, key, value = tensors = inputs()
    ours = attend(*tensors, window=window)
    theirs = torch.einsum("hqk,khd->qhd", weights_by_definition(query, key, window), value)
    torch.testing.assert_close(ours, theirs)
    factors = torch.randn_like(ours)
    for mine, wanted in zip(
        torch.autograd.grad((ours * factors).sum(), tensors),
        torch.autograd.grad((theirs * factors).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.usefixtures("grouping")
def test_dropout_zeroes_weights_and_scales_the_others():
    """The values of a row's keys are unit vectors, so that its outputs are its weights."""
    query, key, _ = inputs(size=max(LENGTHS))
    value = torch.cat([torch.eye(max(LENGTHS), dtype=torch.float64)[:length] for length in LENGTHS])
    value = value[:, None].expand(-1, HEADS, -1)
    torch.manual_seed(1)
    dropped = attend(query, key, value, dropout=0.3)
    plain = attend(query, key, value)
    kept = dropped != 0
    torch.testing.assert_close(dropped, plain * kept / 0.7)
    assert 0.1 < (plain != 0)[~kept].double().sum() / (plain != 0).sum() < 0.5

    other = torch.randn_like(value)
    torch.manual_seed(1)
    mixed = attend(query, key, other, dropout=0.3)
    by_row = zip(dropped.split(LENGTHS), other.split(LENGTHS), strict=True)
    wanted = [
        torch.einsum("qhk,khd->qhd", weights[:, :, : len(row)], row) for weights, row in by_row
    ]
    torch.testing.assert_close(mixed, torch.cat(wanted))


@pytest.mark.parametrize("multiple", [1, 4], ids=["full", "with empty slots"])
def test_gradients_with_dropout_are_those_of_the_same_draw(multiple, monkeypatch):
    monkeypatch.setattr(module, "LENGTH_MULTIPLE", multiple)
    lengths = [3, 3, 2]

    def seeded(*tensors):
        torch.manual_seed(3)
        return attend(*tensors, dropout=0.3, lengths=lengths)

    assert torch.autograd.gradcheck(seeded, inputs(lengths=lengths, size=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_an_empty_slot_out_of_reach_of_all_keys_does_no_harm(dtype):
    tensors = inputs(dtype=dtype, lengths=[24, 2])
    attend(*tensors, window=5, lengths=[24, 2], dropout=0.1).sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_share_of_dropped_weights_is_right(dtype):
    lengths = [32] * 40
    zeros = torch.zeros(sum(lengths), HEADS, 32, dtype=dtype)
    value = torch.eye(32, dtype=dtype).repeat(40, 1)[:, None].expand(-1, HEADS, -1)
    torch.manual_seed(0)
    weights = attend(zeros, zeros, value, dropout=0.1, lengths=lengths)
    assert (weights == 0).double().mean().item() == pytest.approx(0.1, abs=0.005)
    assert weights.double().sum(-1).mean().item() == pytest.approx(1, abs=0.01)


def test_one_head_leaves_its_inputs_alone():
    tensors = inputs(heads=1, lengths=[32, 32])
    before = [tensor.detach().clone() for tensor in tensors]
    attend(*tensors, lengths=[32, 32], dropout=0.5).sum().backward()
    for tensor, value in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=40))
def test_groups_cover_all_tokens_in_their_order(lengths):
    lengths = sorted(lengths, reverse=True)
    groups = row_groups(lengths)
    assert sum(group.num_rows for group in groups) == sum(length > 0 for length in lengths)
    places = [place for group in groups for place in range(group.tokens.start, group.tokens.stop)]
    assert places == list(range(sum(lengths)))
    packed = torch.arange(1.0, sum(lengths) + 1)[:, None, None]
    returned = torch.zeros_like(packed)
    for group in groups:
        assert group.length % 32 == 0
        slots = group.spread(packed)
        assert slots.shape == (group.num_rows, group.length, 1)
        assert (group.is_empty is None) == bool((slots != 0).all())
        if group.is_empty is not None:
            assert torch.equal(group.is_empty[:, 0], slots[..., 0] == 0)
        group.collect(slots, returned)
    assert torch.equal(returned, packed)
