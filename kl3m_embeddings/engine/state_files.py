"""Trainer state on disk: JSON and safetensors. Optimizer state goes by parameter name."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.path_kind import utf8_folder
from kl3m_embeddings.files.records import read_object, read_record

STATE_FILE = "state.json"
SEPARATOR = "|"  # between a parameter's name and the name of its state, as in "x.weight|exp_avg"


def write_state(path: Path, state: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Write `state` as JSON and each named set of tensors as `<name>.safetensors`."""
    path.mkdir(parents=True, exist_ok=True)
    for name, named_tensors in tensors.items():
        contiguous = {key: tensor.contiguous() for key, tensor in named_tensors.items()}
        with utf8_folder(path) as folder:
            save_file(contiguous, folder / f"{name}.safetensors")
    text = json.dumps(state, allow_nan=False, indent=1)
    (path / STATE_FILE).write_text(text + "\n", encoding="utf-8")


def read_train_state(path: Path) -> TrainState:
    """Read the state that `write_state` wrote.

    Raises:
        DamagedError: it is none, or one that this version does not know.
    """
    file, remedy = path / STATE_FILE, "not a state of this version's"
    known = {one.name for one in fields(TrainState)}
    if unknown := read_object(file, remedy).keys() - known:
        raise DamagedError(f"{file}: {min(unknown)}: unknown key; {remedy}")
    return read_record(file, TrainState, remedy)


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Read the named sets of tensors that `write_state` wrote."""
    with utf8_folder(path) as folder:
        return {name: load_file(folder / f"{name}.safetensors") for name in names}


def flatten_optimizer_state(
    module: nn.Module, optimizers: Iterable[Optimizer]
) -> dict[str, Tensor]:
    """The optimizers' tensors by parameter name and state name."""
    names: dict[Tensor, str] = {p: name for name, p in module.named_parameters()}
    return {
        f"{names[parameter]}{SEPARATOR}{key}": value
        for optimizer in optimizers
        for parameter, entry in optimizer.state.items()
        for key, value in entry.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer_state(
    module: nn.Module, optimizers: Iterable[Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Put the tensors of `flatten_optimizer_state` back."""
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, state_name = key.split(SEPARATOR)
        by_parameter.setdefault(name, {})[state_name] = tensor
    names = {parameter: name for name, parameter in module.named_parameters()}
    for optimizer in optimizers:
        optimizer.state.clear()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if entry := by_parameter.get(names[parameter]):
                    optimizer.state[parameter] = {
                        key: _placed(value, parameter, optimizer) for key, value in entry.items()
                    }


def _placed(value: Tensor, parameter: nn.Parameter, optimizer: Optimizer) -> Tensor:
    """On the parameter's device; an unfused AdamW keeps its step count on the host."""
    if value.ndim == 0 and not optimizer.defaults.get("fused"):
        return value
    return value.to(parameter.device, dtype=torch.float32)
