"""How long each phase of a step takes, on the device's own clock.

A mark is an event in the device's stream: the time between two marks is that of the work between
them, wherever the host happens to wait. On the CPU, work is done when the call returns.
"""

import time
from dataclasses import dataclass, field

import torch


@dataclass
class PhaseTimer:
    """Marks of one step."""

    device: torch.device
    _marks: list[tuple[str, float | torch.cuda.Event]] = field(default_factory=list)

    def mark(self, phase: str) -> None:
        """End `phase`, which began at the mark before."""
        if self.device.type != "cuda":
            self._marks.append((phase, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append((phase, event))

    def read(self) -> dict[str, float]:
        """Seconds of each phase; waits for the device."""
        seconds: dict[str, float] = {}
        for (_, start), (phase, end) in zip(self._marks, self._marks[1:], strict=False):
            seconds[phase] = seconds.get(phase, 0.0) + _between(start, end)
        return seconds


def _between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float) and isinstance(end, float)
        return end - start
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000.0
