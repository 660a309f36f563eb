"""fp32 masters and optimizer state under ZeRO, read and written as whole tensors by parameter.

ZeRO keeps both in flat tensors, of which each rank has a part: one for each parameter group in
stages 1 and 2, one for each sub-group in stage 3, where the weights are split as well. Reading is a
collective. Writing is not: every rank is given the whole tensor and keeps its part.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kl3m_embeddings.engine.state_files import SEPARATOR

LOSS_SCALE = f"loss_scale{SEPARATOR}"
LOSS_SCALE_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
ADAM_KEYS, MUON_KEYS = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)


@runtime_checkable
class ZeroState(Protocol):
    """The state of one of DeepSpeed's ZeRO optimizers."""

    def flat_tensors(self) -> list[tuple[Tensor, Mapping[str, Any]]]:
        """This rank's flat masters, each with its parameter group."""
        ...

    def read(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """The whole master, or the whole optimizer state of that key."""
        ...

    def write(self, parameter: nn.Parameter, key: str | None, value: Tensor) -> None:
        """Keep this rank's part of it."""
        ...

    def link(self) -> None:
        """Let `read` and `write` find the optimizer state that is there now."""
        ...

    def publish(self) -> None:
        """Bring the masters into the weights that the model computes with; a collective."""
        ...

    def before_forward(self) -> None:
        """What DeepSpeed needs before each forward pass."""
        ...

    def forget_gradients(self) -> None:
        """Empty the buffers of this rank's gradients.

        DeepSpeed overwrites them at the next step, but for parameters that its task does not reach:
        these would be stepped with the gradient of an earlier one.
        """
        ...


class FlatState:
    """Stages 1 and 2."""

    def __init__(self, optimizer: Any) -> None:  # noqa: ANN401
        self._optimizer = optimizer

    def flat_tensors(self) -> list[tuple[Tensor, Mapping[str, Any]]]:
        """One for each parameter group."""
        flat = self._optimizer.single_partition_of_fp32_groups
        return list(zip(flat, self._optimizer.optimizer.param_groups, strict=True))

    def read(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """Gathered from the ranks."""
        whole: Tensor = parameter.get_full_hp_param(key)  # type: ignore[attr-defined]
        return whole

    def write(self, parameter: nn.Parameter, key: str | None, value: Tensor) -> None:
        """Keep this rank's part."""
        parameter.set_full_hp_param(value.to(parameter.device), key)  # type: ignore[attr-defined]

    def link(self) -> None:
        """As DeepSpeed does after its first step."""
        self._optimizer._hp_optimizer_states_linked = False
        self._optimizer._lazy_init_hp_params_optimizer_state()

    def publish(self) -> None:
        """Copy this rank's part, and gather the others'."""
        self._optimizer.update_lp_params()

    def before_forward(self) -> None:
        """Each pass finds its parameters whole: there is nothing to fetch."""

    def forget_gradients(self) -> None:
        """Where they are offloaded; elsewhere there are none between steps."""
        for flat, _ in self.flat_tensors():
            if flat.grad is not None:
                flat.grad.zero_()


class SplitState:
    """Stage 3."""

    def __init__(self, optimizer: Any) -> None:  # noqa: ANN401
        self._optimizer = optimizer

    def flat_tensors(self) -> list[tuple[Tensor, Mapping[str, Any]]]:
        """One for each sub-group."""
        groups = self._optimizer.optimizer.param_groups
        group_of = self._optimizer.sub_group_to_group_id
        flat = self._optimizer.fp32_partitioned_groups_flat
        return [(tensor, groups[group_of[index]]) for index, tensor in enumerate(flat)]

    def read(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        """Gathered from the ranks."""
        whole: Tensor = self._optimizer.get_full_hp_param(parameter, key)
        return whole

    def write(self, parameter: nn.Parameter, key: str | None, value: Tensor) -> None:
        """Keep this rank's part; the last rank's is filled up with zeros."""
        size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
        rank, flat = torch.distributed.get_rank(), value.flatten()
        part = flat[rank * size : (rank + 1) * size]
        self._optimizer.set_local_hp_param(F.pad(part, (0, size - len(part))), parameter, key)

    def link(self) -> None:
        """State is looked up where it lies."""

    def publish(self) -> None:
        """Copy this rank's part; small parameters, which every rank holds whole, are gathered."""
        for index in range(len(self._optimizer.fp32_partitioned_groups_flat)):
            self._optimizer._reassign_or_swap_out_partitioned_parameters(index)
        persistent = self._optimizer.persistent_parameters
        if persistent:
            persistent[0].partition(persistent)
            persistent[0].all_gather(persistent)

    def before_forward(self) -> None:
        """Forget the order in which the passes before fetched their parameters.

        DeepSpeed 0.19.8 fetches ahead by it, and fails where parameters are used outside their own
        module: the masked-language head uses the word embeddings ("tracing error").
        """
        coordinator = self._optimizer._get_param_coordinator()
        if not coordinator.is_invalid_trace():
            coordinator._invalidate_trace()

    def forget_gradients(self) -> None:
        """Those that are reduced into, and those that are offloaded."""
        self._optimizer.grad_partitions_flat_buffer.zero_()
        for flat, _ in self.flat_tensors():
            if flat.grad is not None:
                flat.grad.zero_()


def state_keys(group: Mapping[str, Any]) -> tuple[str, ...]:
    """The optimizer state of a parameter group."""
    return MUON_KEYS if group.get("use_muon") else ADAM_KEYS


def read_optimizer_state(
    zero: ZeroState,
    inner: Any,  # noqa: ANN401
    parameters: Mapping[str, tuple[nn.Parameter, tuple[str, ...]]],
) -> dict[str, Tensor]:
    """Gather the optimizer state; none before the first step.

    Args:
        zero: where it lies.
        inner: torch's optimizer over the flat tensors.
        parameters: with their state keys, by name.
    """
    if not all(inner.state.get(flat) for flat, _ in zero.flat_tensors()):
        return {}  # stage 3 makes Muon's momentum, and only that, before the first step
    zero.link()  # DeepSpeed does so in its first step, before all groups have their state
    steps = [inner.state[flat].get("step") for flat, _ in zero.flat_tensors()]
    step = next((float(one) for one in steps if one is not None), 0.0)
    state = {}
    for name, (parameter, keys) in parameters.items():
        for key in keys:
            state[f"{name}{SEPARATOR}{key}"] = zero.read(parameter, key).cpu()
        if keys == ADAM_KEYS:
            state[f"{name}{SEPARATOR}step"] = torch.tensor(step)
    return state


def write_optimizer_state(
    zero: ZeroState,
    inner: Any,  # noqa: ANN401
    parameters: Mapping[str, tuple[nn.Parameter, tuple[str, ...]]],
    state: Mapping[str, Tensor],
) -> None:
    """Put back what `read_optimizer_state` gave, or what one device's optimizers had."""
    steps = [float(value) for key, value in state.items() if key.endswith(f"{SEPARATOR}step")]
    for flat, group in zero.flat_tensors():
        entry = {key: torch.zeros_like(flat) for key in state_keys(group)}
        if state_keys(group) == ADAM_KEYS:
            entry["step"] = torch.tensor(max(steps, default=0.0), device=flat.device)
        inner.state[flat] = entry
    zero.link()
    for name, key, parameter in _entries(parameters):
        value = state.get(f"{name}{SEPARATOR}{key}")
        if value is not None:
            zero.write(parameter, key, value.float())


def _entries(
    parameters: Mapping[str, tuple[nn.Parameter, tuple[str, ...]]],
) -> Iterator[tuple[str, str, nn.Parameter]]:
    for name, (parameter, keys) in parameters.items():
        for key in keys:
            yield name, key, parameter


def read_loss_scale(optimizer: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """The state of fp16's moving loss scale, as further tensors of the optimizer's state."""
    if not optimizer.dynamic_loss_scale:
        return {}
    fields = {name: getattr(optimizer.loss_scaler, name, None) for name in LOSS_SCALE_FIELDS}
    return {
        f"{LOSS_SCALE}{name}": torch.tensor(float(value))
        for name, value in fields.items()
        if value is not None
    }


def write_loss_scale(optimizer: Any, state: Mapping[str, Tensor]) -> None:  # noqa: ANN401
    """Put back what `read_loss_scale` gave, if it gave anything."""
    for name in LOSS_SCALE_FIELDS:
        if (value := state.get(f"{LOSS_SCALE}{name}")) is not None:
            kind = float if name == "cur_scale" else int
            setattr(optimizer.loss_scaler, name, kind(value))
