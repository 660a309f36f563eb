"""A run that diverges: which of its checkpoints are good, and how to go on from the last of them.

A step whose loss or gradient is not finite says of the weights that they may be ruined, by the last
step that changed them: its own loss and gradient were those of the weights before it.

1. While such steps follow each other, nothing is saved. A checkpoint is therefore known to be good
   once there is a newer one, or a later step that was finite; the newest alone may be ruined.
2. The one before the newest is never deleted (`saver.py`).
3. A run that ends like this puts aside what it has written since that last step.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.errors import DataError, UserError
from kl3m_embeddings.files.checkpoint import Checkpoint, checkpoint_steps, set_aside, verify
from kl3m_embeddings.files.latest import point_latest


@dataclass(kw_only=True)
class GoodCheckpoints:
    """What is known of a run's checkpoints from its steps."""

    folder: Path
    """Of the model."""
    launcher: str
    """The program that trains it."""
    lower_rates: Mapping[str, float]
    """Fields of training.json with which it might not have diverged."""
    start_step: int
    """Where this process started."""
    last_finite: int | None = None
    """Its last step with a finite loss and gradient: what was before it is good."""

    def end(self, reason: str) -> UserError:
        """Put aside what may be ruined; the error that says so, and how to go on.

        Args:
            reason: what is wrong, and at which step.
        """
        doubtful = self.start_step if self.last_finite is None else self.last_finite
        aside = []
        if self.last_finite is not None:  # else the run before may have known it to be good
            steps = [step for step in checkpoint_steps(self.folder) if step >= doubtful]
            aside = [set_aside(self.folder / f"checkpoint-{step}", "diverged") for step in steps]
        good = self._newest_before(doubtful)
        message = f"{self.folder}: {reason}"
        if self.last_finite is None and self.start_step == 0:
            return UserError(
                f"{message}, before any step with a finite loss: no rate is to blame: try another "
                "init_from or initializer_range, precision float32, or a larger temperature"
            )
        if good is None:
            return UserError(
                f"{message}; there is no checkpoint from before: start anew with --restart and a "
                "lower optimizer.peak_lr"
            )
        if aside:
            point_latest(self.folder, good.path.name)
            message += f"; what may be ruined is in {', '.join(path.name for path in aside)}"
        command = ["python", self.launcher, str(self.folder)]
        command += ["--resume_from_checkpoint", str(good.path)]
        for key, rate in self.lower_rates.items():
            command += ["--set", f"{key}={rate:g}"]
        return UserError(
            f"{message}; {good.path.name} is the last good one: go on from it at a lower rate: "
            f"{shlex.join(command)}"
        )

    def _newest_before(self, step: int) -> Checkpoint | None:
        for earlier in checkpoint_steps(self.folder):
            if earlier < step:
                try:
                    return verify(self.folder / f"checkpoint-{earlier}")
                except DataError:
                    continue
        return None


def lower_rates(optimizer: OptimizerConfig) -> dict[str, float]:
    """The learning rates that are high, as fields of training.json, a tenth as high."""
    low = optimizer.peak_lr / 10
    rates = {name: getattr(optimizer, name) for name in ("start_lr", "peak_lr", "end_lr")}
    lower = {f"optimizer.{name}": low for name, rate in rates.items() if rate > low}
    if optimizer.name == "muon":
        lower["optimizer.muon_lr"] = optimizer.muon_lr / 10
    return lower
