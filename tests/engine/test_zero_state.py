"""State of flat tensors by parameter, over a stand-in for DeepSpeed's optimizer of one rank.

What DeepSpeed itself does with it is in test_conformance.py, every stage.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kl3m_embeddings.engine.state_files import (
    SEPARATOR,
    flatten_optimizer_state,
    restore_optimizer_state,
)
from kl3m_embeddings.engine.zero_state import (
    ADAM_KEYS,
    MUON_KEYS,
    ZeroState,
    read_loss_scale,
    read_optimizer_state,
    state_keys,
    write_loss_scale,
    write_optimizer_state,
)


class OneFlatTensor:
    """All parameters in one flat tensor, the way ZeRO keeps them, on the only rank."""

    def __init__(self, module, group):
        self.parameters = list(module.parameters())
        self.flat = nn.Parameter(torch.cat([one.detach().flatten() for one in self.parameters]))
        self.group = group
        self.inner = torch.optim.AdamW([self.flat], lr=0.1)
        self.num_links = 0

    def _place(self, parameter):
        sizes = [one.numel() for one in self.parameters]
        number = next(n for n, one in enumerate(self.parameters) if one is parameter)
        return slice(sum(sizes[:number]), sum(sizes[: number + 1]))

    def _whole(self, key):
        return self.flat.data if key is None else self.inner.state[self.flat][key]

    def flat_tensors(self):
        return [(self.flat, self.group)]

    def read(self, parameter, key):
        return self._whole(key)[self._place(parameter)].view_as(parameter).clone()

    def write(self, parameter, key, value):
        self._whole(key)[self._place(parameter)] = value.flatten()

    def link(self):
        self.num_links += 1

    def publish(self):
        pass

    def before_forward(self):
        pass

    def forget_gradients(self):
        self.flat.grad = None


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(2, 1)})


def stepped(optimizer, parameters, steps=3):
    """Step with gradients that depend on the place among the parameters and on the step."""
    for step in range(steps):
        start = 0
        for one in parameters:
            numbers = torch.arange(start, start + one.numel(), dtype=torch.float32)
            one.grad = ((numbers + 1) * (step - 1.5)).view_as(one)
            start += one.numel()
        optimizer.step()


def named(module, keys=ADAM_KEYS):
    return {name: (one, keys) for name, one in module.named_parameters()}


def test_what_is_read_is_the_state_of_one_device(module):
    zero = OneFlatTensor(module, {})
    assert isinstance(zero, ZeroState)
    stepped(zero.inner, [zero.flat])
    plain = torch.optim.AdamW(module.parameters(), lr=0.1)
    stepped(plain, list(module.parameters()))
    found = read_optimizer_state(zero, zero.inner, named(module))
    expected = flatten_optimizer_state(module, [plain])
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_one_devices_state_goes_into_flat_tensors_and_the_next_steps_agree(module):
    plain = torch.optim.AdamW(module.parameters(), lr=0.1)
    stepped(plain, list(module.parameters()))
    zero = OneFlatTensor(module, {})
    write_optimizer_state(zero, zero.inner, named(module), flatten_optimizer_state(module, [plain]))
    assert zero.num_links == 1
    stepped(zero.inner, [zero.flat], steps=2)
    stepped(plain, list(module.parameters()), steps=2)
    together = torch.cat([one.detach().flatten() for one in module.parameters()])
    torch.testing.assert_close(zero.flat.detach(), together)
    back = read_optimizer_state(zero, zero.inner, named(module))
    restore_optimizer_state(module, [plain], back)
    assert {float(value) for key, value in back.items() if key.endswith("step")} == {5.0}


def test_before_the_first_step_there_is_no_state(module):
    zero = OneFlatTensor(module, {})
    assert read_optimizer_state(zero, zero.inner, named(module)) == {}
    assert zero.num_links == 0


def test_what_the_state_lacks_begins_at_zero(module):
    zero = OneFlatTensor(module, {})
    one = {f"a.bias{SEPARATOR}exp_avg": torch.ones(2)}
    write_optimizer_state(zero, zero.inner, named(module), one)
    state = zero.inner.state[zero.flat]
    assert state["exp_avg"].tolist() == [0.0] * 6 + [1.0] * 2 + [0.0] * 3
    assert not state["exp_avg_sq"].any()
    assert state["step"] == 0


def test_muons_matrices_have_momentum_alone(module):
    assert state_keys({"use_muon": True}) == MUON_KEYS
    assert state_keys({"use_muon": False}) == state_keys({}) == ADAM_KEYS
    zero = OneFlatTensor(module, {"use_muon": True})
    momenta = {
        f"{name}{SEPARATOR}momentum_buffer": torch.randn_like(one)
        for name, one in module.named_parameters()
    }
    write_optimizer_state(zero, zero.inner, named(module, MUON_KEYS), momenta)
    assert zero.inner.state[zero.flat].keys() == {"momentum_buffer"}
    found = read_optimizer_state(zero, zero.inner, named(module, MUON_KEYS))
    assert found.keys() == momenta.keys()
    assert all(torch.equal(found[key], momenta[key]) for key in momenta)


def scaled(**fields):
    return SimpleNamespace(dynamic_loss_scale=True, loss_scaler=SimpleNamespace(**fields))


def test_a_moving_loss_scale_is_kept_with_whole_numbers_whole():
    fields = {"cur_scale": 2.0**15, "cur_iter": 9, "last_overflow_iter": -1, "cur_hysteresis": 2}
    state = read_loss_scale(scaled(**fields))
    other = scaled(cur_scale=1.0, cur_iter=0, last_overflow_iter=0, cur_hysteresis=1)
    write_loss_scale(other, state | {f"a.weight{SEPARATOR}exp_avg": torch.ones(2)})
    assert vars(other.loss_scaler) == fields
    assert {name: type(one) for name, one in vars(other.loss_scaler).items()} == {
        "cur_scale": float, "cur_iter": int, "last_overflow_iter": int, "cur_hysteresis": int
    }  # fmt: skip


def test_a_constant_scale_and_a_state_without_one_change_nothing():
    assert read_loss_scale(SimpleNamespace(dynamic_loss_scale=False)) == {}
    other = scaled(cur_scale=4.0)
    write_loss_scale(other, {})
    assert vars(other.loss_scaler) == {"cur_scale": 4.0}
