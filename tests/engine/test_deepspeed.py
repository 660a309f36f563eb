"""What needs no second rank; DeepSpeed is not imported here: later tests fork this process.

Whole runs: test_conformance.py and commands/test_train_deepspeed.py.
"""

import sys

import pytest
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from kl3m_embeddings.engine.deepspeed import (
    LAUNCHER_VARIABLES,
    ClippedTogether,
    import_deepspeed,
    join_ranks,
    said_of_settings,
    zero_optimizer,
)
from kl3m_embeddings.engine.single import clipped_step
from kl3m_embeddings.errors import ConfigError


def test_without_a_launcher_it_says_how_to_start(monkeypatch):
    for name in LAUNCHER_VARIABLES:
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(ConfigError, match=r"^RANK, MASTER_PORT: not set: start this with a lau"):
        join_ranks()


def test_a_package_that_is_missing_is_told_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ConfigError, match="deepspeed: not installed: `poetry install --extras"):
        import_deepspeed()


def trained(scale, max_norm, *, together, poisoned=None):
    """Weights and results after steps of two optimizers over two layers, gradients times scale."""
    torch.manual_seed(0)
    layers = [nn.Linear(3, 2), nn.Linear(2, 1)]
    optimizers = [torch.optim.AdamW(one.parameters(), lr=0.1, fused=True) for one in layers]
    joined = ClippedTogether(optimizers, scale)
    results = []
    for step in range(3):
        factor = float("nan") if step == poisoned else step + 1.0
        loss = layers[1](layers[0](torch.ones(4, 3)).tanh()).square().sum() * factor
        (loss * scale).backward()
        if together:
            joined.max_norm = torch.tensor(max_norm)
            joined.step()
            results.append(joined.result)
        else:
            results.append(clipped_step(optimizers, torch.tensor(max_norm), scale))
    return [p.detach() for one in layers for p in one.parameters()], results


@pytest.mark.parametrize("poisoned", [None, 1])
@pytest.mark.parametrize("max_norm", [0.5, float("inf")])
def test_several_optimizers_step_as_one_as_on_one_device(max_norm, poisoned):
    """And a constant scale of the loss is undone."""
    ours, results = trained(1024.0, max_norm, together=True, poisoned=poisoned)
    plain, expected = trained(1.0, max_norm, together=False, poisoned=poisoned)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)
    assert [bool(one.skipped) for one in results] == [n == poisoned for n in range(3)]
    for one, other in zip(results, expected, strict=True):
        torch.testing.assert_close(one.norm, other.norm, equal_nan=True)


def test_groups_are_the_optimizers_own():
    layers = [nn.Linear(3, 2), nn.Linear(2, 1)]
    optimizers = [torch.optim.AdamW(one.parameters(), lr=0.1) for one in layers]
    joined = ClippedTogether(optimizers, 1.0)
    joined.param_groups[1]["lr"] = 0.5
    assert [one.param_groups[0]["lr"] for one in optimizers] == [0.1, 0.5]


def test_adamw_alone_is_what_zero_runs(make_engine):
    engine = make_engine("adamw fused")
    assert zero_optimizer(engine.objective, engine.optimizers) is engine.optimizers[0]


class DeepSpeedZeroConfig(BaseModel):
    """A section as DeepSpeed checks it."""

    model_config = ConfigDict(extra="forbid")
    stage: int = 0


def test_what_a_section_gets_wrong_is_a_line_each():
    with pytest.raises(ValidationError) as raised:
        DeepSpeedZeroConfig.model_validate({"stage": "many", "overlap_com": True})
    lines = said_of_settings(raised.value).splitlines()
    assert lines == [
        "deepspeed.zero_optimization.stage: Input should be a valid integer, unable to parse "
        "string as an integer",
        "deepspeed.zero_optimization.overlap_com: unknown to DeepSpeed: remove it",
    ]


def test_other_complaints_are_passed_on():
    assert said_of_settings(ValueError("Something is off.")) == "deepspeed: Something is off"
    said = said_of_settings(ValueError("Type fp16 is not supported on your device."))
    assert said.endswith("not supported on your device: choose another precision")
