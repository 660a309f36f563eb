"""The attention kernel for the CPU against float32, and its dropout against Philox."""

import pytest
import torch

from kl3m_embeddings.encoder.kernels.cpu_attention import DisentangledAttentionCPU
from kl3m_embeddings.encoder.kernels.dropout import bits_of_heads, is_dropped, mixed
from kl3m_embeddings.encoder.kernels.native_attention import AttentionNative
from kl3m_embeddings.encoder.kernels.sequences import Sequences
from tests.encoder.kernels.kernel_inputs import (
    BFLOAT16_ERROR,
    attend,
    attention_inputs,
    needs_kernels,
    relative_error,
)


@needs_kernels
@pytest.mark.parametrize(
    "shape", [(3, 32, 2, 32), (17, 40, 2, 32), (2, 300, 2, 64), (1, 7, 3, 32)], ids=str
)
def test_attention_and_its_gradients_are_float32s_rounded(shape):
    inputs, (batch, length, *_) = attention_inputs(*shape), shape
    mask = torch.arange(length) < torch.arange(length, 0, -1)[:batch, None]
    mask[0, 1:3] = False  # not only at the end
    mask[-1] = batch == 1  # nor a row of nothing else
    output, leaves = attend(inputs, mask)
    exact_leaves = [one.float().requires_grad_() for one in inputs]
    bias = Sequences.of(mask).bias(torch.float32)
    exact = DisentangledAttentionCPU.apply(*exact_leaves, bias, 0.1, 0.0, None)
    weights = torch.randn(exact.shape) * mask[:, :, None, None]
    assert relative_error(output * weights, exact * weights) < BFLOAT16_ERROR
    grads = torch.autograd.grad(output, leaves, weights.bfloat16())
    exact_grads = torch.autograd.grad(exact, exact_leaves, weights.bfloat16().float())
    for grad, wanted in zip(grads, exact_grads, strict=True):
        assert relative_error(grad, wanted) < BFLOAT16_ERROR
    assert torch.isfinite(output).all()
    without = attend(inputs, torch.ones(batch, length, dtype=torch.bool))[0]
    whole = mask.all(dim=1)
    assert torch.equal(output[whole], without[whole])


@needs_kernels
def test_attention_with_dropout_follows_its_mask():
    inputs, mask = attention_inputs(9, 128, 4, 32), torch.ones(9, 128, dtype=torch.bool)
    torch.manual_seed(3)
    output, leaves = attend(inputs, mask, dropout=0.25)
    # of each head, row, query and key
    signed = output.grad_fn.saved_tensors[-1].view(4, 9, 128, 128).float()
    kept = signed.signbit().logical_not()
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.002)
    assert len({row.numpy().tobytes() for row in kept.flatten(0, 2)}) == 9 * 4 * 128

    query, key, value, pos_key, pos_query = exact = [one.float().requires_grad_() for one in inputs]
    rows = torch.arange(128)[None, :] - torch.arange(128)[:, None] + 127  # k - q ascending
    scores = torch.einsum("bqhd,bkhd->hbqk", query, key)
    scores = scores + torch.einsum("bqhd,hqkd->hbqk", query, pos_key[:, rows])
    scores = scores + torch.einsum("bkhd,hqkd->hbqk", key, pos_query[:, rows.T])
    weights = torch.softmax(scores * 0.1, dim=-1) * kept / 0.75
    wanted = torch.einsum("hbqk,bkhd->bqhd", weights, value)
    assert relative_error(output, wanted) < BFLOAT16_ERROR
    factors = torch.randn(wanted.shape).bfloat16()
    grads = torch.autograd.grad(output, leaves, factors)
    for grad, one in zip(grads, torch.autograd.grad(wanted, exact, factors.float()), strict=True):
        assert relative_error(grad, one) < BFLOAT16_ERROR


@needs_kernels
@pytest.mark.parametrize("absent", [{3}, {4}, {3, 4}], ids=str)
def test_a_position_term_that_is_absent_is_one_of_zeros(absent):
    inputs = attention_inputs(5, 70, 2, 32)
    mask = torch.arange(70) < torch.tensor([70, 69, 33, 32, 1])[:, None]
    zeros = [torch.zeros_like(one) if n in absent else one for n, one in enumerate(inputs)]
    nothing = [None if n in absent else one for n, one in enumerate(inputs)]
    factors = torch.randn(inputs[0].shape).bfloat16()
    results = []
    for given in (zeros, nothing):
        torch.manual_seed(0)
        output, leaves = attend(given, mask, dropout=0.2)
        present = [one for n, one in enumerate(leaves) if n not in absent]
        results.append([output, *torch.autograd.grad(output, present, factors)])
    for with_zeros, without in zip(*results, strict=True):
        assert torch.equal(with_zeros, without)


@needs_kernels
def test_sequences_one_after_another_attend_as_rows_do():
    lengths = [70, 33, 32, 1]
    inputs = attention_inputs(4, 70, 2, 32)[:3]
    mask = torch.arange(70) < torch.tensor(lengths)[:, None]
    by_row, _ = attend([*inputs, None, None], mask)
    packed = [one[mask][None] for one in inputs]
    sequences = Sequences.one_after_another(lengths)
    assert sequences.bounds.tolist() == [[0, 70], [70, 103], [103, 135], [135, 136]]
    output = AttentionNative.apply(*packed, None, None, sequences, 0.1, 0.0, None)
    assert torch.equal(output[0], by_row[mask])


@needs_kernels
def test_weights_are_dropped_as_torchs_operations_drop_them():
    """Of sequences that begin anywhere, in each head; queries beyond their ends are nobody's."""
    inputs = attention_inputs(1, 200, 3, 32)[:3]
    lengths = [70, 33, 96, 1]
    keys = mixed(torch.arange(200).int())
    output = AttentionNative.apply(
        *(one.requires_grad_() for one in inputs),
        None, None, Sequences.one_after_another(lengths), 0.1, 0.3, keys,
    )  # fmt: skip
    signed, wanted = output.grad_fn.saved_tensors[-1].float().signbit(), []
    for head in range(3):
        start = 0
        for length in lengths:
            padded = -(-length // 32) * 32
            rows = bits_of_heads(keys[None, start : start + length], 3)[0, head]
            one = is_dropped(rows, padded, 0.3)
            wanted.append(torch.cat([one, torch.zeros(padded - length, padded).bool()]).flatten())
            start += length
    first = 0
    for index, one in enumerate(wanted):
        padded = int(len(one) ** 0.5)
        length = lengths[index % len(lengths)]
        ours = signed[first : first + len(one)].view(padded, padded)[:length]
        assert torch.equal(ours, one.view(padded, padded)[:length])
        first += len(one)
    assert first == len(signed)
