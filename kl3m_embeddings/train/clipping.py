"""The gradient norm above which a step is scaled down: a percentile of the norms before it.

The window lives on the device, so that no step waits for a norm. Norm of step s stands at place
s % size; NaN stands for a step that was skipped or has not been.

AutoClip: Seetharaman et al. 2020, https://arxiv.org/abs/2007.14469
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.engine.base import StepResult

MIN_KNOWN_NORMS = 100


class GradNormWindow:
    """The last norms, and the threshold they give."""

    def __init__(
        self, config: OptimizerConfig, device: torch.device, norms: list[float | None] | None = None
    ) -> None:
        """Start empty, or with the `norms` of `state`."""
        self._max_norm = torch.tensor(config.max_grad_norm, device=device)
        self._percentile = config.max_grad_norm_pct
        known = [math.nan if norm is None else norm for norm in norms or []]
        size = config.max_grad_norm_window
        self._norms = torch.full((size,), math.nan, device=device)
        self._norms[: len(known)] = torch.tensor(known[:size], device=device)

    def threshold(self) -> Float[Tensor, ""]:
        """The percentile of the norms known; `max_grad_norm` while they are fewer than 100."""
        if self._percentile is None:
            return self._max_norm
        num_known = (~self._norms.isnan()).sum()
        percentile = self._norms.nanquantile(self._percentile / 100.0)
        return torch.where(num_known >= MIN_KNOWN_NORMS, percentile, self._max_norm)

    def record(self, step: int, result: StepResult) -> None:
        """Remember the norm of a step."""
        norm = torch.where(result.skipped, torch.nan, result.norm)
        self._norms[step % len(self._norms)] = norm

    def state(self) -> list[float | None]:
        """The norms as JSON; waits for the device."""
        return [None if math.isnan(norm) else norm for norm in self._norms.tolist()]
