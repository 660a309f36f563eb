import torch

from kl3m_embeddings.encoder.pooling import POOLINGS, cls_pool, finish, mean_pool


def test_padding_never_counts():
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    spoilt = hidden.masked_fill(mask[..., None] == 0, 1e6)
    for pool in POOLINGS.values():
        assert torch.equal(pool(spoilt, mask), pool(hidden.where(mask[..., None] == 1, 0), mask))
    torch.testing.assert_close(mean_pool(hidden, mask)[0], hidden[0, :3].mean(0))
    assert torch.equal(cls_pool(hidden, mask.bool()), torch.stack([hidden[0, 0], hidden[1, 2]]))


def test_an_empty_text_has_a_finite_vector():
    assert torch.equal(mean_pool(torch.ones(1, 3, 2), torch.zeros(1, 3).bool()), torch.zeros(1, 2))


def test_bf16_states_are_summed_in_fp32():
    hidden = torch.full((1, 1000, 1), 1.0, dtype=torch.bfloat16)
    assert mean_pool(hidden, torch.ones(1, 1000).bool()) == torch.ones(1, 1)


def test_truncation_comes_before_the_norm():
    embeddings = torch.tensor([[3.0, 4.0, 12.0]])
    torch.testing.assert_close(finish(embeddings, 2, normalise=True), torch.tensor([[0.6, 0.8]]))
    assert torch.equal(finish(embeddings, normalise=False), embeddings)
