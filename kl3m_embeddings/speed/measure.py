"""Times one side in this process, or in a process of its own, so that peak memory is its own."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PretrainedConfig

from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.encoder.hardware import (
    describe_hardware,
    describe_versions,
    measure_peak_flops,
    pick_device,
    wait,
)
from kl3m_embeddings.engine.single import DTYPES
from kl3m_embeddings.errors import RetryError
from kl3m_embeddings.speed.sides import SIDES, Step, Work, changed

PHASES = ("forward", "backward", "optimizer")
NUM_WARM_UP_STEPS = {"cpu": 1, "mps": 3, "cuda": 5}


def measure(
    side: str, config: PretrainedConfig, work: Work, device: torch.device, num_steps: int
) -> dict[str, float]:
    """Medians over `num_steps` steps, after some to warm up.

    Returns:
        Seconds of a step and of its phases, tokens and floating-point operations a second, those of
        a bare matrix product, peak memory in GB (of the process; on CUDA of the device), and the
        first loss.
    """
    torch.manual_seed(0)
    config = changed(config, work)
    step = SIDES[side](config, work, device)
    first_loss = run_step(step, device)[1]
    for _ in range(NUM_WARM_UP_STEPS[device.type] - 1):
        run_step(step, device)
    timed = [run_step(step, device)[0] for _ in range(num_steps)]
    step_s = median(sum(seconds) for seconds in timed)
    memory_gb = peak_memory_gb(device)
    limit = measure_peak_flops(device, DTYPES[work.precision])
    return {
        "step_s": step_s,
        "tokens_per_s": work.num_tokens / step_s,
        "flops": step.flops / step_s,
        "flops_limit": limit,
        "peak_memory_gb": memory_gb,
        "first_loss": first_loss,
        **{f"{name}_s": median(one[index] for one in timed) for index, name in enumerate(PHASES)},
    }


def run_step(step: Step, device: torch.device) -> tuple[list[float], float]:
    """Seconds of each phase, and the loss."""
    marks = [moment(device)]
    loss = step.forward()
    marks.append(moment(device))
    step.backward(loss)
    marks.append(moment(device))
    step.optimise()
    marks.append(moment(device))
    return [end - start for start, end in pairwise(marks)], loss.item()


def moment(device: torch.device) -> float:
    """The time at which the device has done what it was given."""
    wait(device)
    return time.perf_counter()


def peak_memory_gb(device: torch.device) -> float:
    """The most that was in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def measure_apart(
    side: str, config: Path, work: Work, *, device: str | None, num_steps: int
) -> dict[str, float]:
    """`measure` in a process of its own.

    Raises:
        RetryError: the process failed; what it said last is in the message.
    """
    request = {"side": side, "config": str(config), "device": device, "num_steps": num_steps}
    command = [sys.executable, "-m", __name__, json.dumps({**request, "work": asdict(work)})]
    # as in training: waiting threads sleep
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it was killed: not enough memory?"]
        raise RetryError(f"{side} at {work.batch_size} x {work.length}: {lines[-1]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each number, over runs."""
    return {key: median(run[key] for run in runs) for key in runs[0]}


def describe_machine(device: str | None) -> dict[str, Any]:
    """Hardware and versions."""
    hardware = describe_hardware(pick_device(device))
    return {"hardware": hardware, "versions": describe_versions()}


def main(request: Mapping[str, Any]) -> None:
    """Print what was asked for, as JSON."""
    work = Work(**{one.name: request["work"][one.name] for one in fields(Work)})
    config = load_architecture(Path(request["config"]))
    device = pick_device(request["device"])
    print(json.dumps(measure(request["side"], config, work, device, request["num_steps"])))  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
