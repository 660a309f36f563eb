import pytest
import torch

from kl3m_embeddings.encoder.kernels.dropout import Dropout, sign_of_dropped


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_the_share_and_the_mean_are_right(p):
    torch.manual_seed(0)
    states = torch.ones(1000, 401, requires_grad=True)
    output = Dropout(p)(states)
    assert (output == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert output.mean().item() == pytest.approx(1, abs=0.01)
    assert output.max().item() == pytest.approx(1 / (1 - p))
    output.sum().backward()
    assert torch.equal(states.grad, output.detach())


def test_neighbours_are_independent():
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(200_000)) == 0).float()
    for distance in (1, 2, 3, 4, 8, 1000):
        together = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert together == pytest.approx(0.25, abs=0.005)


def test_it_follows_the_seed_and_rests_in_evaluation():
    module, states = Dropout(0.1), torch.ones(5000)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(module(states))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert module.eval()(states) is states
    assert Dropout(0.0)(states) is states


def test_marks_are_signs_alone():
    torch.manual_seed(0)
    marks = sign_of_dropped(10_001, 0.3)
    assert set(marks.tolist()) == {0, -(2**15)}
    assert (marks < 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
