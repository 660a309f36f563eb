"""The evaluations of held-out text in numbers, and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from kl3m_embeddings.report.statistics.columns import total

PARTS = ("eval", "text", "pairs", "tasks")
# A row of eval.jsonl: `step`, and numbers whose names are those of the file. A row that lacks
# what another has has None.
EvalRow = Mapping[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class EvalStatistics:
    """The first, the best (lowest mean) and the last evaluation; no `best` if none has a mean."""

    num_evals: int
    times: dict[str, float | None]
    """Seconds in all, by part: `eval` is the whole of which the others are parts, if logged."""
    first: EvalRow
    best: EvalRow | None
    last: EvalRow

    @property
    def shown(self) -> dict[str, EvalRow]:
        """Those that there are, by what they are."""
        found = {"first": self.first, "best": self.best, "last": self.last}
        return {name: row for name, row in found.items() if row}

    @property
    def best_mean(self) -> float | None:
        """The lowest mean loss."""
        return self.best["mean"] if self.best else None

    @property
    def best_step(self) -> int | None:
        """The step of the lowest mean loss."""
        step = self.best["step"] if self.best else None
        return None if step is None else int(step)


def eval_statistics(evals: pl.DataFrame) -> EvalStatistics | None:
    """The statistics of all evaluations; None if there is none."""
    if evals.is_empty():
        return None
    rows = evals.to_dicts()
    with_mean = [row for row in rows if row.get("mean") is not None]
    return EvalStatistics(
        num_evals=len(rows),
        times={
            part: total(evals[column])
            for part in PARTS
            if (column := f"{part}_time") in evals.columns
        },
        first=rows[0],
        best=min(with_mean, key=lambda row: row["mean"]) if with_mean else None,
        last=rows[-1],
    )
