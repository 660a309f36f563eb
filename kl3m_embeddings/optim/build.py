"""Optimizers over named parameters: which weight decays, and which one Muon trains.

Each group carries `lr_scale`: its rate over the schedule's, so that one schedule drives all.
"""

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kl3m_embeddings.config.training import OptimizerConfig

NamedParameters = list[tuple[str, nn.Parameter]]
# In a parameter's name: `encoder.layer.3.` of BERT and DeBERTa, `layers.3.` of ModernBERT.
HIDDEN_LAYER = re.compile(r"\.layers?\.\d+\.")


def build_adamw(named: NamedParameters, config: OptimizerConfig) -> list[Optimizer]:
    """AdamW (https://arxiv.org/abs/1711.05101); matrices decay, biases and norms do not."""
    matrices = [parameter for _, parameter in named if parameter.ndim >= 2]
    vectors = [parameter for _, parameter in named if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.adamw_wd, "lr_scale": 1.0},
        {"params": vectors, "weight_decay": 0.0, "lr_scale": 1.0},
    ]
    return [
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.peak_lr,
            betas=(config.adamw_beta1, config.adamw_beta2),
            eps=config.adamw_eps,
            fused=config.fused,
        )
    ]


def build_muon(named: NamedParameters, config: OptimizerConfig) -> list[Optimizer]:
    """Muon (https://kellerjordan.github.io/posts/muon/) for the hidden layers' matrices.

    Embeddings, heads, biases and norms stay with AdamW: Muon makes an update's singular values
    equal, which suits maps between hidden states, and not tables of rows.
    """
    hidden = [(name, p) for name, p in named if p.ndim == 2 and HIDDEN_LAYER.search(name)]
    chosen = {name for name, _ in hidden}
    group = {"params": [p for _, p in hidden], "lr_scale": config.muon_lr / config.peak_lr}
    muon = torch.optim.Muon(
        [group], lr=config.muon_lr, momentum=config.momentum, weight_decay=config.adamw_wd
    )
    return [muon, *build_adamw([item for item in named if item[0] not in chosen], config)]


OPTIMIZERS: dict[str, Callable[[NamedParameters, OptimizerConfig], list[Optimizer]]] = {
    "adamw": build_adamw,
    "muon": build_muon,
}


def build_optimizers(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> list[Optimizer]:
    """The optimizers that `config` names, over the parameters that are trained."""
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    return OPTIMIZERS[config.name](trained, config)


def set_lr(optimizers: Iterable[Optimizer], lr: float) -> None:
    """Set every group's rate from the schedule's."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]


@torch.no_grad()
def step_unless(skipped: Tensor, optimizer: Optimizer) -> None:
    """Step, or leave weights and state as they are where `skipped` is true; the host never waits.

    Args:
        skipped: bool, no dimensions, on the device.
        optimizer: a fused AdamW takes the flag itself; the others are undone from a copy.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
        optimizer.step()
        return
    # A step that is skipped after all may have made state from nothing, whose former value is zero.
    before = {tensor: tensor.clone() for tensor in _tensors(optimizer)}
    optimizer.step()
    for tensor in _tensors(optimizer):
        kept = before[tensor] if tensor in before else torch.zeros_like(tensor)
        tensor.copy_(torch.where(skipped.to(tensor.device), kept, tensor))


def _tensors(optimizer: Optimizer) -> list[Tensor]:
    """What a step changes: the parameters with a gradient, and their state."""
    parameters: list[Tensor] = [
        parameter
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    state = [value for entry in optimizer.state.values() for value in entry.values()]
    return parameters + [value for value in state if isinstance(value, Tensor)]
