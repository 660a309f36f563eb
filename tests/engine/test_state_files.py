import pytest
import torch

from kl3m_embeddings.engine.state_files import (
    flatten_optimizer_state,
    read_state,
    restore_optimizer_state,
    write_state,
)


@pytest.fixture
def module():
    return torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(2, 1)})


def stepped(module, **settings):
    """AdamW over the module after two steps in which `b` had no gradient."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, **settings)
    for _ in range(2):
        optimizer.zero_grad()
        module["a"](torch.ones(3)).sum().backward()
        optimizer.step()
    return optimizer


def test_state_goes_by_the_names_of_the_parameters(module):
    tensors = flatten_optimizer_state(module, [stepped(module)])
    states = ("step", "exp_avg", "exp_avg_sq")
    assert set(tensors) == {f"a.{part}|{one}" for part in ("weight", "bias") for one in states}


@pytest.mark.parametrize("saved_fused", [False, True])
@pytest.mark.parametrize("loaded_fused", [False, True])
def test_state_is_put_back_bit_for_bit(module, tmp_path, saved_fused, loaded_fused):
    optimizer = stepped(module, fused=saved_fused)
    tensors = flatten_optimizer_state(module, [optimizer])
    write_state(tmp_path / "t", {"step": 2}, {"optimizer": tensors})
    state, read = read_state(tmp_path / "t", ["optimizer"])
    assert state == {"step": 2}
    other = stepped(module, fused=loaded_fused)
    stepped_further = {key: value + 1 for key, value in read["optimizer"].items()}
    restore_optimizer_state(module, [other], stepped_further)
    restore_optimizer_state(module, [other], read["optimizer"])
    again = flatten_optimizer_state(module, [other])
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)
    module["b"](module["a"](torch.ones(3))).sum().backward()
    other.step()  # what was put back can be gone on with


def test_what_a_parameter_had_before_is_forgotten(module):
    optimizer = stepped(module)
    restore_optimizer_state(module, [optimizer], {})
    assert not flatten_optimizer_state(module, [optimizer])


def test_state_must_be_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_state(tmp_path, {"norm": float("nan")}, {})
