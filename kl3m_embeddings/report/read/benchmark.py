"""What was measured of a run's models: benchmark scores, nearest neighbours, spectra.

1. The files are `benchmark/scores.jsonl`, `benchmark/neighbours.jsonl` and `spectra.jsonl` in the
   run's folder. Each may be missing.
2. What was measured again counts as it was measured last.
3. A model with steps is a checkpoint of a run. Unless it is about the steps, its newest one counts.
4. Other models may be measured beside the run's own, which has the run's name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kl3m_embeddings.report.read.benchmark_rows import (
    Query,
    Score,
    Spectrum,
    read_query,
    read_score,
    read_spectrum,
)
from kl3m_embeddings.report.read.jsonl import read_rows

SCORES, NEIGHBOURS, SPECTRA = (
    "benchmark/scores.jsonl",
    "benchmark/neighbours.jsonl",
    "spectra.jsonl",
)
FILES = (SCORES, NEIGHBOURS, SPECTRA)
Row = TypeVar("Row")
Measured = TypeVar("Measured", Score, Query, Spectrum)


@dataclass(frozen=True)
class Benchmark:
    """The rows of the three files, and what to say about them."""

    name: str = ""
    """The run's folder."""
    scores: list[Score] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    spectra: list[Spectrum] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def own(self, rows: "Sequence[Measured]") -> "list[Measured]":
        """Those of `rows` about the run's own model: that of its name, or else the only one."""
        models = {row.model for row in rows}
        own = {self.name} if self.name in models or len(models) > 1 else models
        return [row for row in rows if row.model in own]

    @property
    def own_scores(self) -> list[Score]:
        """Those of the run's own model."""
        return self.own([score for score in self.scores if not score.baseline])

    @property
    def own_spectra(self) -> list[Spectrum]:
        """Those of the run's own model."""
        return self.own(self.spectra)


def read_benchmark(folder: Path) -> Benchmark:
    """What the run's folder has of the three files."""
    scores, score_notes = read_scores(folder / SCORES)
    queries, query_notes = read_file(folder / NEIGHBOURS, read_query)
    spectra, spectra_notes = read_spectra(folder / SPECTRA)
    return Benchmark(
        name=folder.resolve().name,
        scores=scores,
        queries=measured_last(queries, lambda row: (row.model, row.step, row.task, row.query)),
        spectra=spectra,
        notes=[*score_notes, *query_notes, *spectra_notes],
    )


def read_scores(path: Path) -> tuple[list[Score], list[str]]:
    """The scores of a file, as they were measured last, and what to say about its lines."""
    scores, notes = read_file(path, read_score)
    return measured_last(
        scores, lambda row: (row.model, row.step, row.of, row.dim, row.dtype, row.control)
    ), notes


def read_spectra(path: Path) -> tuple[list[Spectrum], list[str]]:
    """The spectra of a file, as they were measured last, and what to say about its lines."""
    spectra, notes = read_file(path, read_spectrum)
    return measured_last(spectra, lambda row: (row.model, row.step, row.layer, row.name)), notes


def read_file(path: Path, check: Callable[[object], Row]) -> tuple[list[Row], list[str]]:
    """The rows of a file that need not be there, and what to say about its lines."""
    if not path.exists():
        return [], []
    rows, lines = read_rows(path, check)
    return rows, lines.notes(path.name)


def measured_last(rows: Sequence[Row], identity: Callable[[Row], object]) -> list[Row]:
    """`rows` without those that a later one of the same identity replaces, in their order."""
    last = {identity(row): row for row in rows}
    return list(last.values())


def newest(rows: Sequence[Measured]) -> list[Measured]:
    """The rows about each model's newest step."""
    steps: dict[str, int] = {}
    for row in rows:
        step = -1 if row.step is None else row.step
        steps[row.model] = max(step, steps.get(row.model, -1))
    return [row for row in rows if steps[row.model] == (-1 if row.step is None else row.step)]


def unique_task_names(scores: Sequence[Score]) -> dict[tuple[str, str, str, str, str], str]:
    """A short name for each thing that was measured: as much of it as tells them apart."""
    measured = list(dict.fromkeys(score.of for score in scores))
    names = {}
    for type_, task, subset, split, metric in measured:
        same = [other for other in measured if other[1] == task]
        parts = [task]
        parts += [subset] if len({other[2] for other in same}) > 1 else []
        parts += [split] if len({other[3] for other in same}) > 1 else []
        parts += [metric] if len({other[4] for other in same}) > 1 else []
        names[type_, task, subset, split, metric] = " ".join(part for part in parts if part)
    return names
