"""The dtype that matrix products run in."""

from typing import Literal

import torch
from torch import Tensor


def compute_dtype(states: Tensor) -> torch.dtype:
    """Autocast's dtype where it is on, else that of `states`."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


Precision = Literal["bfloat16", "float32"]


def default_precision(device: torch.device) -> Precision:
    """bfloat16 where products of it are fast."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if device.type == "cpu" and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16, as oneDNN sees it."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
