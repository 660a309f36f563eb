import pytest
import torch

from kl3m_embeddings.encoder.pooling import (
    POOLINGS,
    cls_pool,
    finish,
    max_pool,
    mean_pool,
    mean_sqrt_len_pool,
)


def test_padding_never_counts():
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    spoilt = hidden.masked_fill(mask[..., None] == 0, 1e6)
    for pool in POOLINGS.values():
        assert torch.equal(pool(spoilt, mask), pool(hidden.where(mask[..., None] == 1, 0), mask))
    torch.testing.assert_close(mean_pool(hidden, mask)[0], hidden[0, :3].mean(0))
    torch.testing.assert_close(mean_sqrt_len_pool(hidden, mask)[1], hidden[1, 2:].sum(0) / 3**0.5)
    assert torch.equal(max_pool(hidden, mask)[1], hidden[1, 2:].amax(0))
    assert torch.equal(cls_pool(hidden, mask.bool()), torch.stack([hidden[0, 0], hidden[1, 2]]))


@pytest.mark.parametrize("name", sorted(POOLINGS.keys() - {"cls"}))
def test_an_empty_text_is_zero_and_so_is_its_gradient(name):
    hidden = torch.ones(2, 3, 2, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True] * 3])
    pooled = POOLINGS[name](hidden, mask)
    assert torch.equal(pooled[0], torch.zeros(2))
    pooled.sum().backward()
    assert torch.equal(hidden.grad[0], torch.zeros(3, 2))
    assert hidden.grad[1].abs().sum() > 0


@pytest.mark.parametrize("name", ["mean", "mean_sqrt_len"])
def test_bf16_states_are_summed_in_fp32(name):
    hidden = torch.full((1, 1000, 1), 1.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = POOLINGS[name](hidden, torch.ones(1, 1000).bool())
    expected = 1.0 if name == "mean" else 1000**0.5
    torch.testing.assert_close(pooled, torch.tensor([[expected]]))


def test_truncation_comes_before_the_norm():
    embeddings = torch.tensor([[3.0, 4.0, 12.0]])
    torch.testing.assert_close(finish(embeddings, 2, normalise=True), torch.tensor([[0.6, 0.8]]))
    assert torch.equal(finish(embeddings, normalise=False), embeddings)
