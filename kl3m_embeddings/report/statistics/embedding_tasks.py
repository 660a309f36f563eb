"""The tasks that compare the vectors of texts: how many pairs, how well told apart, how alike."""

import polars as pl

from kl3m_embeddings.report.read.log_table import SIMILARITIES
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.steps import Statistics

ENDS = ("first", "last")


def embedding_tasks(run: Run) -> list[Statistics]:
    """Each such task's pairs in total; the rest as means over the run's first and last tenth.

    `similarity` has mean cosines: of positives and negatives, or of texts of the same document, of
    similar and of different ones.
    """
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
    return [of_task(rows[task]) for task in run.embedding_tasks]


def of_task(row: Statistics) -> Statistics:
    """The statistics of one task, of what it has."""
    return {
        "name": row["task"],
        "num_steps": row["num_steps"],
        "num_pairs": row["num_pairs"],
        "num_clashes": row["num_clashes"],
        **{f"{end}_{of}": row[f"{end}_{of}"] for of in ("accuracy", "temperature") for end in ENDS},
        "similarity": {
            kind_of(column): {end: row[f"{end}_{column}"] for end in ENDS}
            for column in SIMILARITIES
            if row[f"num_{column}"]
        },
    }


def kind_of(column: str) -> str:
    """Which texts a field of similarities is about: `positive` of `mean_sim_positive`."""
    return column.removeprefix("mean_sim_")
