import math

import pytest
import torch

from kl3m_embeddings.encoder.deberta.attention import disentangled_attention
from kl3m_embeddings.encoder.kernels import cpu_attention
from kl3m_embeddings.encoder.kernels.sequences import Sequences

LENGTH, HEADS, SIZE = 7, 2, 4


def inputs(batch=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        values = torch.randn(shape, generator=generator, dtype=dtype)
        return values.requires_grad_()

    sequences = [normal(batch, LENGTH, HEADS, SIZE) for _ in range(3)]
    return [*sequences, *(normal(HEADS, 2 * LENGTH - 1, SIZE) for _ in range(2))]


def by_definition(query, key, value, pos_key, pos_query, attention_mask, scale):
    """Every score by its formula, one at a time."""
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key)
    for q in range(LENGTH):
        for k in range(LENGTH):
            row = LENGTH - 1 - (q - k)  # offsets q-k descend from length-1
            scores[:, :, q, k] += torch.einsum("bhd,hd->bh", query[:, q], pos_key[:, row])
            scores[:, :, q, k] += torch.einsum("bhd,hd->bh", key[:, k], pos_query[:, row])
    scores = (scores * scale).masked_fill(~attention_mask[:, None, None], -math.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)


@pytest.mark.parametrize("num_scores", [1, 200, 10**6], ids=["singly", "uneven", "together"])
def test_output_and_gradients_follow_the_definition(monkeypatch, num_scores):
    monkeypatch.setattr(cpu_attention, "NUM_SCORES_AT_ONCE", num_scores)
    tensors = inputs()
    attention_mask = torch.arange(LENGTH) < torch.tensor([[7], [3], [1], [5], [7]])
    ours = disentangled_attention(*tensors, Sequences.of(attention_mask), 0.4, 0.0)
    theirs = by_definition(*tensors, attention_mask, 0.4)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    for mine, wanted in zip(
        torch.autograd.grad((ours * weights).sum(), tensors),
        torch.autograd.grad((theirs * weights).sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize("num_scores", [200, 10**6])
def test_gradients_with_dropout_are_those_of_the_same_draw(monkeypatch, num_scores):
    monkeypatch.setattr(cpu_attention, "NUM_SCORES_AT_ONCE", num_scores)
    attention_mask = torch.ones(3, LENGTH, dtype=torch.bool)

    def attend(*tensors):
        torch.manual_seed(3)
        return disentangled_attention(*tensors, Sequences.of(attention_mask), 0.4, 0.3)

    assert torch.autograd.gradcheck(attend, inputs(batch=3), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropout_drops_its_share_of_weights_and_keeps_their_mean(dtype):
    query, key, _, pos_key, pos_query = (
        torch.zeros_like(t, dtype=dtype) for t in inputs(batch=2000)
    )
    value = torch.eye(LENGTH, dtype=dtype)[:, None, :SIZE].expand(2000, LENGTH, HEADS, SIZE)
    mask = torch.ones(2000, LENGTH, dtype=torch.bool)
    torch.manual_seed(0)
    # With equal scores, output [.., i] is the weight of key i: 1/7 before dropout.
    output = disentangled_attention(
        query, key, value, pos_key, pos_query, Sequences.of(mask), 1.0, 0.25
    )
    assert (output == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert output.double().mean().item() * LENGTH == pytest.approx(1, abs=0.01)
    assert len(output.unique()) == 2
