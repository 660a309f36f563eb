"""The CUDA kernels of attention; without a GPU in Triton's interpreter, on small blocks."""

import math
import os
import subprocess
import sys

import pytest
import torch

from kl3m_embeddings.encoder.kernels.cpu_attention import DisentangledAttentionCPU
from kl3m_embeddings.encoder.kernels.dropout import (
    bits_of_heads,
    is_dropped,
    kept_scale,
    token_bits,
)

pytest.importorskip("triton")

from kl3m_embeddings.encoder.kernels.triton_attention import attend_packed

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BLOCK, HEADS, SIZE = 16, 2, 16
SCALE = 0.2
ROW_KEY = torch.tensor([2**40 + 17], device=DEVICE)


def bounds_of(lengths):
    starts = torch.tensor([0, *lengths], device=DEVICE).cumsum(0)
    return torch.stack([starts[:-1], starts[1:]], dim=1).to(torch.int32)


def inputs(lengths, max_length, dtype=torch.float32, heads=HEADS, size=SIZE):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        values = torch.randn(shape, generator=generator)
        return values.to(DEVICE, dtype).requires_grad_()

    states = [normal(sum(lengths), heads, size) for _ in range(3)]
    return [*states, *(normal(heads, 2 * max_length - 1, size) for _ in range(2))]


def dropout_keys(num_tokens):
    return token_bits(ROW_KEY, torch.arange(num_tokens, device=DEVICE).int())


def attend(tensors, lengths, max_length, dropout=0.0, block=BLOCK, is_key=None):
    keys = dropout_keys(len(tensors[0])) if dropout else None
    rest = bounds_of(lengths), max_length, SCALE, dropout, keys
    return attend_packed(*tensors, *rest, is_key=is_key, block=block)


def by_definition(tensors, lengths, max_length, dropout=0.0, is_key=None):
    """Every score by its formula, and the weights that torch's operations keep."""
    query, key, value, pos_key, pos_query = tensors
    bits = bits_of_heads(dropout_keys(len(query))[None], query.shape[1])[0]
    kept = ~is_dropped(bits.flatten(), max_length, dropout).view(*bits.shape, -1)  # heads first
    outputs, start = [], 0
    for length in lengths:
        tokens = slice(start, start + length)
        position = torch.arange(length, device=DEVICE)
        row = max_length - 1 - (position[:, None] - position)  # offsets q-k descend
        scores = torch.einsum("qhd,khd->hqk", query[tokens], key[tokens])
        if pos_key is not None:
            scores = scores + torch.einsum("qhd,hqkd->hqk", query[tokens], pos_key[:, row])
        if pos_query is not None:
            scores = scores + torch.einsum("khd,hqkd->hqk", key[tokens], pos_query[:, row])
        if is_key is not None:
            scores = scores.masked_fill(is_key[tokens] == 0, -math.inf)
        weights = (scores * SCALE).softmax(-1) * kept[:, tokens, :length] * kept_scale(dropout)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, value[tokens]))
        start += length
    return torch.cat(outputs)


def assert_same(ours, theirs, tensors, in_double, tolerance):
    """Outputs, and gradients under the same arbitrary one of the output.

    In 16 bits errors are normal, and the bound is that of all together.
    """
    factors = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(ours)
    pairs = [(ours, theirs)]
    given = [
        torch.autograd.grad(output, [one for one in matrices if one is not None], grad.to(output))
        for output, matrices, grad in ((ours, tensors, factors), (theirs, in_double, factors))
    ]
    pairs += zip(*given, strict=True)
    for mine, wanted in pairs:
        assert mine.dtype == ours.dtype
        exact = mine.to(wanted)
        if ours.itemsize == 2:
            assert (exact - wanted).norm() < tolerance * wanted.norm()
        else:
            torch.testing.assert_close(exact, wanted, atol=tolerance, rtol=tolerance)


def assert_by_definition(
    tensors, lengths, max_length, dropout=0.0, block=BLOCK, tolerance=1e-5, is_key=None
):
    in_double = [None if one is None else one.detach().double().requires_grad_() for one in tensors]
    ours = attend(tensors, lengths, max_length, dropout, block, is_key)
    theirs = by_definition(in_double, lengths, max_length, dropout, is_key)
    assert_same(ours, theirs, tensors, in_double, tolerance)


@pytest.mark.parametrize(
    ("lengths", "max_length"),
    [
        pytest.param([1], 1, id="one token"),
        pytest.param([9], 9, id="below"),
        pytest.param([16], 16, id="one block"),
        pytest.param([9], 40, id="much below", marks=pytest.mark.slow),
        pytest.param([33], 33, id="above", marks=pytest.mark.slow),
        pytest.param([5, 0, 37, 16], 41, id="rows", marks=pytest.mark.slow),
    ],
)
def test_output_and_gradients_follow_the_definition(lengths, max_length):
    assert_by_definition(inputs(lengths, max_length), lengths, max_length)


@pytest.mark.parametrize("missing", [(3,), (4,), (3, 4)], ids=["c2p", "p2c", "both"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.slow
def test_scores_may_lack_a_term(missing, dropout):
    lengths = [18, 3]
    tensors = inputs(lengths, 18)
    for one in missing:
        tensors[one] = None
    assert_by_definition(tensors, lengths, 18, dropout)


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.slow
def test_dropout_drops_what_its_mask_says(p):
    lengths = [7, 21]
    assert_by_definition(inputs(lengths, 21), lengths, 21, dropout=p)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.slow
def test_masked_tokens_inside_of_a_row_are_seen_by_none(dropout):
    """One, several, and more than a block at a time."""
    lengths = [7, 40]
    is_key = torch.ones(47, dtype=torch.uint8, device=DEVICE)
    is_key[3] = is_key[12:30] = is_key[46] = 0
    assert_by_definition(inputs(lengths, 40), lengths, 40, dropout, is_key=is_key)


# Triton's interpreter multiplies bfloat16 as if its bits were integers.
@pytest.mark.parametrize(
    "dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)]
)
def test_16_bits_round_inputs_and_weights_alone(dtype):
    """Sums are of fp32."""
    lengths = [20, 5]
    tensors = inputs(lengths, 20, dtype)
    assert_by_definition(tensors, lengths, 20, 0.1, tolerance=torch.finfo(dtype).eps)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.slow
def test_results_are_the_same_bit_by_bit(dropout):
    lengths = [18, 5]
    runs = []
    for _ in range(2):
        tensors = inputs(lengths, 18)
        output = attend(tensors, lengths, 18, dropout)
        runs.append([output, *torch.autograd.grad(output.square().sum(), tensors)])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_tokens_of_no_row_get_and_give_nothing():
    tensors = inputs([21], 12)
    output = attend(tensors, [5, 12], 12)
    grads = torch.autograd.grad(output.sum(), tensors)
    for states in (output, *grads[:3]):
        assert states[:17].any(dim=-1).all()
        assert not states[17:].any()
    packed = [one.detach()[:17] for one in tensors[:3]]
    assert torch.equal(output[:17], attend([*packed, *tensors[3:]], [5, 12], 12))


def test_it_agrees_with_attention_on_the_cpu():
    lengths, length = [19, 4, 11], 19
    tensors = inputs(lengths, length)
    slots = torch.cat([row * length + torch.arange(one) for row, one in enumerate(lengths)])
    is_token = torch.zeros(3 * length, dtype=torch.bool).index_fill_(0, slots, True).view(3, length)
    in_double = [one.detach().cpu().double().requires_grad_() for one in tensors]
    padded = (
        one.new_zeros(3 * length, HEADS, SIZE).index_copy(0, slots, one).view(3, length, HEADS, -1)
        for one in in_double[:3]
    )
    tables = in_double[3], in_double[4].flip(1)
    bias = torch.zeros(3, length, dtype=torch.double).masked_fill_(~is_token, -math.inf)
    theirs = DisentangledAttentionCPU.apply(*padded, *tables, bias[:, None], SCALE, 0.0, None)[
        is_token
    ]
    ours = attend(tensors, lengths, length)
    assert_same(ours.cpu(), theirs, tensors, in_double, 1e-5)


@pytest.mark.slow
def test_kernels_compile_and_two_programs_fit_on_a_hopper_multiprocessor(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tests.encoder.kernels.compile_attention", "90"],
        env=os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert not result.returncode, result.stderr
    memory = [int(line.split()[1]) for line in result.stdout.splitlines()]
    assert len(memory) == 15
    assert 2 * (max(memory) + 1024) <= 228 * 1024


def full_size(lengths, dtype=torch.bfloat16):
    return inputs(lengths, 512, dtype, heads=12, size=64)


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_full_size_follows_the_definition(dropout):
    lengths = [512, 300, 0, 64, 511]
    assert_by_definition(full_size(lengths), lengths, 512, dropout, block=None, tolerance=0.01)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_size_fits_on_the_device(size, dtype):
    lengths = [130, 7]
    tensors = inputs(lengths, 130, dtype, size=size)
    tolerance = 1e-4 if dtype == torch.float32 else 0.002
    assert_by_definition(tensors, lengths, 130, dropout=0.1, block=None, tolerance=tolerance)


@pytest.mark.gpu
def test_a_cuda_graph_is_replayed_with_other_rows_and_other_masks():
    tensors, keys, bounds = full_size([512, 512]), dropout_keys(1024), bounds_of([512, 512])

    def step():
        output = attend_packed(*tensors, bounds, 512, SCALE, 0.1, keys)
        return [output, *torch.autograd.grad(output, tensors, torch.ones_like(output))]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    keys += 1
    bounds.copy_(bounds_of([300, 411]))
    graph.replay()
    for replayed, eager in zip(captured, step(), strict=True):
        assert torch.equal(replayed, eager)
