"""One row of log.jsonl: filled in a step late, when the device has its numbers."""

import math
import resource
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.tasks.plan import StepPlan
from kl3m_embeddings.train.phase_timer import PhaseTimer

PHASES = ("sample", "forward", "backward", "optimizer")


@dataclass(frozen=True, kw_only=True)
class PendingRow:
    """A step whose numbers are still on the device."""

    plan: StepPlan
    epoch: int
    lr: float
    loss: Float[Tensor, ""]
    num_correct: Int[Tensor, ""]
    measures: Mapping[str, Float[Tensor, ""]]
    divisors: dict[str, float]
    clip_threshold: Float[Tensor, ""]
    result: StepResult
    timer: PhaseTimer
    flops: float
    """Floating-point operations of the step."""

    def read(self, total_time: float, peak_flops: float) -> dict[str, Any]:
        """The row; waits for the device.

        Args:
            total_time: seconds of the steps before this one.
            peak_flops: operations a second of a large matrix product on this device.
        """
        seconds = self.timer.read()
        step_time = sum(seconds.values())
        infos = [batch.info for batch in self.plan.batches]
        num_tokens = sum(sum(info.tokens_by_dataset.values()) for info in infos)
        shapes = [shape for batch in self.plan.batches for shape in batch.shapes()]
        num_places = sum(rows * length for rows, length in shapes)
        skipped = bool(self.result.skipped)
        loss = float(self.loss)
        return {
            "step": self.plan.step,
            "epoch": self.epoch,
            "lr": self.lr,
            "sample_time": seconds.get("sample", 0.0),
            "reduced_dim": self.plan.reduced_dim,
            "task": self.plan.task,
            "num_samples": sum(sum(info.samples_by_dataset.values()) for info in infos),
            "num_identifiers": len({i for info in infos for i in _identifiers(info.documents)}),
            "num_tokens": num_tokens,
            "samples_by_dataset": _added(info.samples_by_dataset for info in infos),
            "tokens_by_dataset": _added(info.tokens_by_dataset for info in infos),
            "loss": None if skipped or not math.isfinite(loss) else loss,
            **self._outcome(),
            "num_fallback": sum(info.num_fallback for info in infos),
            "skipped": skipped,
            "grad_norm": _finite(self.result.norm),
            "clip_threshold": _finite(self.clip_threshold),
            "forward_time": seconds.get("forward", 0.0),
            "backward_time": seconds.get("backward", 0.0),
            "optimizer_time": seconds.get("optimizer", 0.0),
            "step_time": step_time,
            "total_time": total_time + step_time,
            "token_rate": num_tokens / step_time,
            "padding_fraction": 1.0 - num_tokens / num_places,
            "device_mb": device_mb(self.timer.device),
            "mfu": self.flops / (step_time * peak_flops),
            "time": datetime.now().astimezone().isoformat(),
        }

    def _outcome(self) -> dict[str, Any]:
        """Of masked tasks the share of right tokens; of the others what they measure themselves."""
        if "mlm" in self.divisors:
            num_targets = int(self.divisors["mlm"])
            return {
                "accuracy": int(self.num_correct) / max(num_targets, 1),
                "num_targets": num_targets,
            }
        infos = [batch.info for batch in self.plan.batches]
        return {
            **{name: _finite(value) for name, value in self.measures.items()},
            "num_pairs": int(self.divisors["pairs"]),
            "num_clashes": sum(info.num_clashes for info in infos),
        }

    def objects(self) -> dict[str, Any]:
        """The row of objects.jsonl.gz: the documents that the step's samples come from."""
        documents: dict[str, dict[str, None]] = {}
        for batch in self.plan.batches:
            for dataset, ids in batch.info.documents.items():
                documents.setdefault(dataset, {}).update(dict.fromkeys(ids))
        return {
            "step": self.plan.step,
            "objects": {name: [*ids] for name, ids in documents.items()},
        }


@dataclass
class Postfix:
    """What the progress bar shows, in the published order."""

    last_eval: float | None = None
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    def update(self, row: dict[str, Any]) -> dict[str, str]:
        """The postfix after a row; loss_100 and loss_1000 are means over the last so many steps."""
        if row["loss"] is not None:
            self._losses.append(row["loss"])
        self._rates.append(row["token_rate"])
        losses = list(self._losses)
        return {
            "loss": _number(row["loss"], ".2f"),
            "loss_100": _number(_mean(losses[-100:]), ".3f"),
            "loss_1000": _number(_mean(losses), ".3f"),
            "last_eval": _number(self.last_eval, ".2f"),
            "grad_norm": _number(row["grad_norm"], ".2f"),
            "lr": _number(row["lr"], ".1e"),
            "step_time": _number(row["step_time"], ".2f"),
            "token_rate": _number(_mean(list(self._rates)), ".0f"),
        }


def device_mb(device: torch.device) -> float:
    """Peak memory of the device in MiB; on the CPU the process's largest resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _identifiers(documents: dict[str, list[str]]) -> set[tuple[str, str]]:
    return {(dataset, name) for dataset, ids in documents.items() for name in ids}


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total.get(name, 0) + number
    return total


def _finite(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
