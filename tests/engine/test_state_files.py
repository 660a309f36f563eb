from dataclasses import asdict

import pytest
import torch

from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.engine.state_files import (
    flatten_optimizer_state,
    read_tensors,
    read_train_state,
    restore_optimizer_state,
    write_state,
)
from kl3m_embeddings.errors import DamagedError


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
    read = read_tensors(tmp_path / "t", ["optimizer"])
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


STATE = TrainState(
    step=4,
    total_time=2.5,
    last_eval={"step": 4, "mean": 1.0},
    best_step=2,
    grad_norms=[1.0, None],
    log_offsets={"log.jsonl": 7},
)


def test_a_trainers_state_comes_back(tmp_path):
    write_state(tmp_path, asdict(STATE), {})
    assert read_train_state(tmp_path) == STATE


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"step": -1}, "step: "),
        ({"step": "4"}, "step: "),
        ({"step": 10**30}, "step: "),
        ({"grad_norms": [None, "x"]}, "grad_norms.1: "),
        ({"log_offsets": {"log.jsonl": -7}}, "log_offsets.log.jsonl: "),
        ({"total_time": None}, "total_time: "),
        ({"momentum_of_later": 1}, "momentum_of_later: unknown key"),
    ],
)
def test_a_state_that_no_trainer_wrote_is_told(tmp_path, fields, says):
    write_state(tmp_path, asdict(STATE) | fields, {})
    with pytest.raises(DamagedError, match=f"state.json: {says}"):
        read_train_state(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"step": 1', "[" * 100_000])
def test_a_state_that_is_none_is_told(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(DamagedError, match=r"state\.json: "):
        read_train_state(tmp_path)
