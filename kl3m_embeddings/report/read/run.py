"""One run: its log and, from the same folder, what else was recorded and measured of it."""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.path_kind import why_not
from kl3m_embeddings.report.names import printable
from kl3m_embeddings.report.read.benchmark import Benchmark, read_benchmark
from kl3m_embeddings.report.read.jsonl import read_objects
from kl3m_embeddings.report.read.log_table import OF_EMBEDDING_TASKS, LogTable, read_log


@dataclass(frozen=True)
class Run:
    """A run as read from its files. `evals` has `step` and every numeric field of eval.jsonl."""

    name: str
    log: LogTable
    evals: pl.DataFrame
    starts: list[dict[str, Any]]
    total_steps: int | None
    notes: list[str]
    benchmark: Benchmark

    @property
    def steps(self) -> pl.DataFrame:
        """The log's rows."""
        return self.log.steps

    @property
    def num_done(self) -> int:
        """Steps done so far: a log counts them from 1 or, as others do, from 0."""
        return int(self.steps["step"][-1]) + (self.steps["step"][0] == 0) if len(self.steps) else 0

    @property
    def resumes(self) -> list[int]:
        """The steps at which the run was resumed."""
        return sorted({start["step"] for start in self.starts if start["step"] > 0})

    @cached_property
    def tasks(self) -> list[str]:
        """The tasks, most frequent first."""
        counts = self.steps["task"].drop_nulls().value_counts().cast({"task": pl.String})
        return counts.sort("count", "task", descending=[True, False])["task"].to_list()

    @cached_property
    def embedding_tasks(self) -> list[str]:
        """Those of `tasks` that compare the vectors of texts."""
        if not any(self.log.has(name) for name in OF_EMBEDDING_TASKS):
            return []
        is_one = pl.any_horizontal(pl.col(*OF_EMBEDDING_TASKS).is_not_null())
        names = set(self.steps.filter(is_one)["task"].drop_nulls().unique().cast(pl.String))
        return [name for name in self.tasks if name in names]

    @property
    def mixes_losses(self) -> bool:
        """Whether its tasks have losses that cannot be compared: no curve may join them."""
        return bool(self.embedding_tasks) and len(self.tasks) > 1

    def has_eval(self, *columns: str) -> bool:
        """Whether each of `columns` has a value in some evaluation."""
        return all(name in self.evals.columns and self.evals[name].count() for name in columns)


def find_log(path: Path) -> Path:
    """The log that `path` means: itself, or the log.jsonl in the folder."""
    log = path / "log.jsonl" if path.is_dir() else path
    if why := why_not(log, "file"):
        remedy = (
            "train the model first (train_single.py writes it)"
            if path.is_dir() or log.name == "log.jsonl"
            else "pass a model folder or its log.jsonl"
        )
        raise ConfigError(f"{log}: {why}: {remedy}")
    return log


def read_run(path: Path) -> Run:
    """Read the run whose log, or model folder, is `path`."""
    log = read_log(find_log(path))
    folder = log.path.parent
    evals, eval_notes = read_evals(folder / "eval.jsonl")
    starts, start_notes = read_optional(folder / "run.jsonl")
    benchmark = read_benchmark(folder)
    notes = [*log.notes(), *missing_from_log(log)]
    return Run(
        name=printable(folder.resolve().name),
        log=log,
        evals=evals,
        starts=starts,
        total_steps=total_steps(starts, folder / "training.json"),
        notes=[*notes, *eval_notes, *start_notes, *benchmark.notes],
        benchmark=benchmark,
    )


def missing_from_log(log: LogTable) -> list[str]:
    """Says which of the fields that reports are made of the log does not have."""
    if log.steps.is_empty():
        return [f"{log.path.name}: no step logged yet"]
    fields = ("loss", "lr", "task", "num_tokens", "step_time", "optimizer_time", "grad_norm")
    missing = [name for name in fields if not log.has(name)]
    missing += [] if len(log.samples_by_dataset) else ["samples_by_dataset"]
    return [f"{log.path.name}: no {', no '.join(missing)} in it"] if missing else []


def read_optional(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects of a file that a run may lack, and what to say about it."""
    if not path.exists():
        return [], [f"no {path.name} beside the log"]
    objects, lines = read_objects(path)
    return objects, lines.notes(path.name)


def read_evals(path: Path) -> tuple[pl.DataFrame, list[str]]:
    """The evaluations in order of their steps, the last of a repeated step, and what to say."""
    objects, notes = read_optional(path)
    objects = [{as_text(name): value for name, value in row.items()} for row in objects]
    if not objects and not notes:
        notes = [f"{path.name}: no evaluation yet"]
    names = dict.fromkeys(name for row in objects for name, value in row.items() if is_real(value))
    columns = {
        name: [float(row[name]) if is_real(row.get(name)) else None for row in objects]
        for name in names
        if name != "step"
    }
    table = pl.DataFrame(
        {"step": [row["step"] for row in objects], **columns},
        schema={"step": pl.Int64, **dict.fromkeys(columns, pl.Float64)},
    )
    return table.unique("step", keep="last").sort("step"), notes


def as_text(name: str) -> str:
    """`name` without lone surrogates, which are no text to polars."""
    return name.encode(errors="replace").decode()


def is_real(value: object) -> bool:
    """Whether `value` is a number that a plot can show."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -1e300 < value < 1e300  # not infinite, not NaN, and a float
    )


def total_steps(starts: list[dict[str, Any]], training_json: Path) -> int | None:
    """The planned number of steps: from the last start, else from training.json."""
    candidates = [start.get("training") for start in reversed(starts)]
    # The trainer answers for a bad training.json; here it only means that the end is not known.
    with suppress(OSError, ValueError, RecursionError):
        candidates.append(json.loads(training_json.read_bytes()))
    for training in candidates:
        optimizer = training.get("optimizer") if isinstance(training, dict) else None
        steps = optimizer.get("total_steps") if isinstance(optimizer, dict) else None
        if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0:
            return steps
    return None
