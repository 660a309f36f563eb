"""The dtype that matrix products run in."""

import torch
from torch import Tensor


def compute_dtype(states: Tensor) -> torch.dtype:
    """Autocast's dtype where it is on, else that of `states`."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
