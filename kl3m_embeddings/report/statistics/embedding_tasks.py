"""The tasks that compare the vectors of texts: how many pairs, how well told apart, how alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from kl3m_embeddings.report.read.log_table import SIMILARITIES
from kl3m_embeddings.report.read.run import Run

ENDS = ("first", "last")


@dataclass(frozen=True, kw_only=True)
class FirstAndLast:
    """A mean over the run's first tenth, and over its last."""

    first: float | None
    last: float | None


@dataclass(frozen=True, kw_only=True)
class EmbeddingTaskStatistics:
    """A task's pairs in total; the rest are means over the run's first and last tenth.

    `num_clashes` counts the rows of a batch that have a text of another row. The accuracy is the
    share of anchors whose positive is the nearest text of the batch.
    """

    name: str
    num_steps: int
    num_pairs: float
    num_clashes: float
    first_accuracy: float | None
    last_accuracy: float | None
    first_temperature: float | None
    last_temperature: float | None
    similarity: dict[str, FirstAndLast]
    """Mean similarities by kind of pairs: of positives and negatives, or of texts of the same
    document, of similar and of different ones."""


def embedding_tasks(run: Run) -> list[EmbeddingTaskStatistics]:
    """The statistics of each such task, the most frequent first."""
    tenth = max(1, run.steps.height // 10)
    row = pl.col("row")
    means = pl.col("accuracy", "temperature", *SIMILARITIES)
    found = (
        run.steps.with_columns(row=pl.int_range(pl.len()), task=pl.col("task").cast(pl.String))
        .filter(pl.col("task").is_in(run.embedding_tasks))
        .group_by("task")
        .agg(
            pl.len().alias("num_steps"),
            pl.col("num_pairs", "num_clashes").cast(pl.Float64).sum(),
            means.filter(row < tenth).mean().name.prefix("first_"),
            means.filter(row >= run.steps.height - tenth).mean().name.prefix("last_"),
            pl.col(*SIMILARITIES).count().name.prefix("num_"),
        )
    )
    rows = {task["task"]: task for task in found.to_dicts()}
    return [statistics_of(rows[task]) for task in run.embedding_tasks]


def statistics_of(row: Mapping[str, Any]) -> EmbeddingTaskStatistics:
    """The statistics of one task, from its row of the aggregation by tasks."""
    return EmbeddingTaskStatistics(
        name=row["task"],
        num_steps=row["num_steps"],
        num_pairs=row["num_pairs"],
        num_clashes=row["num_clashes"],
        **{f"{end}_{of}": row[f"{end}_{of}"] for of in ("accuracy", "temperature") for end in ENDS},
        similarity={
            kind_of(column): FirstAndLast(first=row[f"first_{column}"], last=row[f"last_{column}"])
            for column in SIMILARITIES
            if row[f"num_{column}"]
        },
    )


def kind_of(column: str) -> str:
    """Which texts a field of similarities is about: `positive` of `mean_sim_positive`."""
    return column.removeprefix("mean_sim_")
