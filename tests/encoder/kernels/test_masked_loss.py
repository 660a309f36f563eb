import pytest
import torch
import torch.nn.functional as F

from kl3m_embeddings.encoder.kernels import masked_loss
from kl3m_embeddings.encoder.kernels.masked_loss import linear_cross_entropy


def problem(num_targets=37, size=8, vocab_size=91):
    torch.manual_seed(0)
    states = torch.randn(num_targets, size, requires_grad=True)
    weight = torch.randn(vocab_size, size, requires_grad=True)
    bias = torch.randn(vocab_size, requires_grad=True)
    labels = torch.randint(vocab_size, (num_targets,))
    labels[5::7] = -100
    return states, weight, bias, labels


@pytest.mark.parametrize("num_at_once", [1, 10, 1000])
def test_loss_and_gradients_equal_autograds(monkeypatch, num_at_once):
    monkeypatch.setitem(masked_loss.NUM_TARGETS_AT_ONCE, "cpu", num_at_once)
    states, weight, bias, labels = problem()
    factor = torch.rand(len(labels))
    results = []
    for compute in (
        lambda: linear_cross_entropy(states, weight, bias, labels)[0],
        lambda: F.cross_entropy(F.linear(states, weight, bias), labels, reduction="none"),
    ):
        loss = compute()
        results.append([loss, *torch.autograd.grad((loss * factor).sum(), (states, weight, bias))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_correct_is_the_highest_logit_and_never_padding():
    states, weight, bias, labels = problem()
    logits = F.linear(states, weight, bias)
    labels = torch.where(torch.arange(len(labels)) % 2 == 0, logits.argmax(-1), labels)
    _, correct = linear_cross_entropy(states, weight, bias, labels)
    assert torch.equal(correct, logits.argmax(-1) == labels)
    bias = bias + 100 * (torch.arange(len(bias)) == 0)
    losses, correct = linear_cross_entropy(states, weight, bias, torch.full_like(labels, -100))
    assert not losses.any()
    assert not correct.any()


def test_autocast_computes_in_bf16_and_returns_fp32():
    states, weight, bias, labels = problem()
    exact, _ = linear_cross_entropy(states, weight, bias, labels)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = linear_cross_entropy(states, weight, bias, labels)
    rough.sum().backward()
    assert rough.dtype == weight.grad.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.1)
