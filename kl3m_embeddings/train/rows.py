"""One row of log.jsonl: filled in a step late, when the device has its numbers."""

import math
import resource
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kl3m_embeddings.engine.base import StepResult
from kl3m_embeddings.tasks.base import StepTotals, Task
from kl3m_embeddings.tasks.plan import StepPlan
from kl3m_embeddings.train.phase_timer import PhaseTimer

N = TypeVar("N", int, float)
PHASES = ("sample", "forward", "backward", "optimizer")


@dataclass(frozen=True, kw_only=True)
class PendingRow:
    """A step whose numbers are still on the device."""

    task: Task[Any]
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

    def share(self) -> dict[str, Any]:
        """This rank's share of the row, as JSON; waits for the device."""
        infos = [batch.info for batch in self.plan.batches]
        shapes = [shape for batch in self.plan.batches for shape in batch.shapes()]
        documents: dict[str, dict[str, None]] = {}
        for info in infos:
            for dataset, ids in info.documents.items():
                documents.setdefault(dataset, {}).update(dict.fromkeys(ids))
        return {
            "loss": float(self.loss),
            "num_correct": int(self.num_correct),
            "measures": {name: float(value) for name, value in self.measures.items()},
            "samples": _added(info.samples_by_dataset for info in infos),
            "tokens": _added(info.tokens_by_dataset for info in infos),
            "num_slots": sum(rows * length for rows, length in shapes),
            "num_fallback": sum(info.num_fallback for info in infos),
            "num_clashes": sum(info.num_clashes for info in infos),
            "flops": self.flops,
            "documents": {name: [*ids] for name, ids in documents.items()},
            "device_mb": device_mb(self.timer.device),
        }

    def row(
        self, shares: Sequence[Mapping[str, Any]], total_time: float, peak_flops: float
    ) -> dict[str, Any]:
        """The row of log.jsonl.

        Args:
            shares: of all ranks.
            total_time: seconds of the steps before this one.
            peak_flops: operations a second of a large matrix product on one device, the best that
                was measured so far.
        """
        seconds = self.timer.read()
        step_time = sum(seconds.values())
        samples, tokens = (_added(one[key] for one in shares) for key in ("samples", "tokens"))
        num_tokens = sum(tokens.values())
        skipped = bool(self.result.skipped)
        loss = sum(one["loss"] for one in shares)
        return {
            "step": self.plan.step,
            "epoch": self.epoch,
            "lr": self.lr,
            "sample_time": seconds.get("sample", 0.0),
            "reduced_dim": self.plan.reduced_dim,
            "task": self.plan.task,
            "num_samples": sum(samples.values()),
            "num_identifiers": len({name for one in shares for name in _identifiers(one)}),
            "num_tokens": num_tokens,
            "samples_by_dataset": samples,
            "tokens_by_dataset": tokens,
            "loss": None if skipped or not math.isfinite(loss) else loss,
            **{name: _finite(value) for name, value in self._outcome(shares).items()},
            "num_fallback": sum(one["num_fallback"] for one in shares),
            "skipped": skipped,
            "grad_norm": _finite(self.result.norm),
            "clip_threshold": _finite(self.clip_threshold),
            "forward_time": seconds.get("forward", 0.0),
            "backward_time": seconds.get("backward", 0.0),
            "optimizer_time": seconds.get("optimizer", 0.0),
            "step_time": step_time,
            "total_time": total_time + step_time,
            "token_rate": num_tokens / step_time,
            "padding_fraction": 1.0 - num_tokens / sum(one["num_slots"] for one in shares),
            "device_mb": max(one["device_mb"] for one in shares),
            "peak_flops": peak_flops,
            "mfu": sum(one["flops"] for one in shares) / (step_time * peak_flops * len(shares)),
            **({"num_devices": len(shares)} if len(shares) > 1 else {}),
            "time": datetime.now().astimezone().isoformat(),
        }

    def _outcome(self, shares: Sequence[Mapping[str, Any]]) -> dict[str, float | int]:
        """What the task says of the step, of the shares of all ranks."""
        return self.task.outcome(
            StepTotals(
                divisors=self.divisors,
                num_correct=sum(one["num_correct"] for one in shares),
                measures=_added(one["measures"] for one in shares),
                num_clashes=sum(one["num_clashes"] for one in shares),
            )
        )

    def objects(self, shares: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The row of objects.jsonl.gz: the documents that the step's samples come from."""
        documents: dict[str, dict[str, None]] = {}
        for one in shares:
            for dataset, ids in one["documents"].items():
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
            **self._token_rates(row),
        }

    def _token_rates(self, row: dict[str, Any]) -> dict[str, str]:
        """Tokens a second, and with several devices those of each."""
        rate, devices = _mean(list(self._rates)), row.get("num_devices", 1)
        rates = {"token_rate": _number(rate, ".0f")}
        if devices > 1 and rate is not None:
            rates["per_device"] = _number(rate / devices, ".0f")
        return rates


def device_mb(device: torch.device) -> float:
    """Peak memory of the device in MiB; on the CPU the process's largest resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _identifiers(share: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(dataset, name) for dataset, ids in share["documents"].items() for name in ids}


def _added(counts: Iterable[Mapping[str, N]]) -> dict[str, N]:
    total: dict[str, N] = {}
    for count in counts:
        for name, number in count.items():
            total[name] = total[name] + number if name in total else number
    return total


def _finite(value: Tensor | float | int) -> float | int | None:
    """The number, whole ones as they are; None where JSON has none for it."""
    number = value if isinstance(value, int) else float(value)
    return number if math.isfinite(number) else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
