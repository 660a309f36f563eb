"""How long `describe.py` takes, and how much memory, on a log of two million steps.

Writes a log of about 750 bytes a line into a temporary folder, runs the real command on it, and
prints the time by the clock and the peak resident memory of that process:

    python benchmarks/describe_log.py [NUM_STEPS]

The aim: two million lines in less than 15 s and 2 GB on two cores. Beside it stands the time to
read the file's bytes once, which nothing can undercut.
"""

import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATASETS = ("govinfo", "recap", "ukleg", "eurlex", "edgar")
TASKS = ("mlm", "mlm", "mlm", "nsp", "nlp", "mhm")
NUM_TEMPLATES = 5000


def log_line(draw: random.Random, step: int, num_steps: int) -> dict[str, object]:
    """One step as the trainer logs it."""
    samples = dict.fromkeys(draw.sample(DATASETS, 2), 64)
    tokens = {name: draw.randrange(6000, 8192) for name in samples}
    is_skipped = draw.random() < 0.001
    phases_s = [draw.gauss(mean, mean / 20) for mean in (0.0018, 0.0271, 0.0098, 0.0011)]
    step_time_s = sum(phases_s) + draw.expovariate(1000)
    loss = 2.5 + 8.5 * math.exp(-6 * math.sqrt(step / num_steps)) + draw.gauss(0, 0.4)
    return {
        "step": step,
        "epoch": 1,
        "lr": 2e-4 * (1 - step / num_steps),
        "sample_time": phases_s[0],
        "reduced_dim": draw.choice((None, None, 64, 128)),
        "task": draw.choice(TASKS),
        "num_samples": 128,
        "num_identifiers": 2,
        "num_tokens": sum(tokens.values()),
        "samples_by_dataset": samples,
        "tokens_by_dataset": tokens,
        "loss": None if is_skipped else loss,
        "forward_time": phases_s[1],
        "backward_time": phases_s[2],
        "optimizer_time": phases_s[3],
        "clip_threshold": 1.5,
        "grad_norm": None if is_skipped else draw.lognormvariate(0, 0.3),
        "skipped": is_skipped,
        "step_time": step_time_s,
        "total_time": step * 0.041,
        "token_rate": sum(tokens.values()) / step_time_s,
        "time": "2026-01-02T03:04:05.678901",
        "padding_fraction": round(draw.random() / 5, 6),
        "device_mb": 11873.5,
        "mfu": 0.3125,
        "num_targets": 2150,
        "accuracy": round(draw.random(), 6),
    }


def log_lines(num_steps: int) -> Iterator[str]:
    """The lines of a log: its steps rise one by one, the rest repeats templates in random order."""
    draw = random.Random(0)
    templates = []
    for index in range(NUM_TEMPLATES):
        line = json.dumps(log_line(draw, index * num_steps // NUM_TEMPLATES, num_steps))
        templates.append(line[line.index(",") :] + "\n")
    for step in range(num_steps):
        near = step * NUM_TEMPLATES // num_steps - draw.randrange(20)
        yield f'{{"step": {step}' + templates[max(0, near)]


def write_evals(path: Path, num_steps: int) -> None:
    """One evaluation for every thousandth part of the run."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(1, 1001):
            mean = 3 + 5 * math.exp(-index / 200)
            row = {"step": index * num_steps // 1001, "mean": mean, "p5": mean - 2, "p95": mean + 2}
            row |= {"svd_mean_ratio_1": 1.5 + index / 1000, "svd_median_ratio_1": 1.5 + index / 900}
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Write the log, run the command, print what it took."""
    num_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log.jsonl"
        with log.open("w", encoding="utf-8") as file:
            file.writelines(log_lines(num_steps))
        write_evals(log.with_name("eval.jsonl"), num_steps)
        size = log.stat().st_size
        print(f"log: {num_steps:,} lines, {size / 1e9:.2f} GB, {size / num_steps:.0f} bytes a line")

        started = time.perf_counter()
        with log.open("rb", buffering=0) as file:
            while file.read(2**24):
                pass
        print(f"reading its bytes only: {time.perf_counter() - started:.1f} s")

        started = time.perf_counter()
        command = [sys.executable, str(ROOT / "describe.py"), str(log)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        pngs = list(log.parent.glob("*.png"))
        print(
            f"describe.py: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of processor, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}), "
            f"peak memory {used.ru_maxrss / 2**20:.2f} GiB; {len(pngs)} plots"
        )


if __name__ == "__main__":
    main()
