"""Saves a run: which steps' checkpoints are written, what is in them, and which are kept."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from kl3m_embeddings.config.training import SaveConfig
from kl3m_embeddings.engine.base import Engine, TrainState
from kl3m_embeddings.engine.state_files import write_state
from kl3m_embeddings.errors import UserError
from kl3m_embeddings.files.checkpoint import TRAINER, checkpoint_steps, prune, save_checkpoint
from kl3m_embeddings.files.faults import fault_point
from kl3m_embeddings.files.latest import point_latest
from kl3m_embeddings.train.logs import RowWriter

Weights = Mapping[str, Tensor]
"""fp32, by their names in the objective."""
LARGEST = 2.0**64
"""The square of such a weight is no float32 any more: no norm or product would be."""


class RuinedError(UserError):
    """The weights are none that anything could go on from."""


@dataclass(frozen=True, kw_only=True)
class Saver:
    """Writes the checkpoints of a model folder, and deletes those that are not kept."""

    folder: Path
    config: SaveConfig
    """Which checkpoints are kept."""
    write_model: Callable[[Path, TrainState, Weights], None]
    """Writes the model with these weights, its tokenizer and card included, into a folder."""
    details: Mapping[str, Any]
    """What manifests say beside the files."""
    verified_steps: set[int] = field(default_factory=set)
    """Checkpoints known to be whole; those that are written join them."""

    def save(self, engine: Engine, state: TrainState, logs: Mapping[str, RowWriter]) -> None:
        """Write the checkpoint of the state's step, unless it is there; all ranks call it.

        Args:
            engine: has the weights and the optimizer's state.
            state: what else a resumed run needs; its `log_offsets` are set here.
            logs: put on the disk first.

        Raises:
            RuinedError: a weight is not finite, or absurdly large; nothing is written.
        """
        if state.step in self.verified_steps and state.step in checkpoint_steps(self.folder):
            return
        weights, optimizer_state = engine.weights(), engine.optimizer_state()
        if not all(bool((tensor.abs() < LARGEST).all()) for tensor in weights.values()):
            raise RuinedError(f"weights are not finite, or above 1e19, at step {state.step}")
        self.verified_steps.add(state.step)  # on all ranks, which must agree on what is saved
        with engine.ranks.together():
            if engine.ranks.is_main:
                self._write(weights, optimizer_state, state, logs)

    def _write(
        self,
        weights: Weights,
        optimizer_state: Mapping[str, Tensor],
        state: TrainState,
        logs: Mapping[str, RowWriter],
    ) -> None:
        """Write the checkpoint, and delete those that are not kept."""
        fault_point("before_log_sync")
        state.log_offsets = {name: log.sync() for name, log in logs.items()}
        fault_point("after_log_sync")
        heads = {name: one for name, one in weights.items() if not name.startswith("encoder.")}

        def write(path: Path) -> None:
            self.write_model(path, state, weights)
            fault_point("after_weights")
            tensors = {"heads": heads, "optimizer": optimizer_state}
            write_state(path / TRAINER, asdict(state), tensors)

        details = {**self.details, "log_offsets": state.log_offsets}
        path = save_checkpoint(self.folder, state.step, write, details)
        point_latest(self.folder, path.name)
        fault_point("after_latest")
        prune(self.folder, lambda steps: self._kept(steps, state.best_step), self.verified_steps)

    def _kept(self, steps: list[int], best_step: int | None) -> set[int]:
        """Which of the verified steps, newest first, to keep.

        The newest may yet prove to be ruined (`divergence.py`), so that two are kept at least.
        """
        kept = set(steps[: max(self.config.keep_last, 2)])
        if self.config.keep_every:
            kept |= {step for step in steps if step % self.config.keep_every == 0}
        if self.config.keep_best and best_step is not None:
            kept.add(best_step)
        return kept
