"""The loss in numbers: over the run, by window, by task, by dimension.

Losses of tasks that mask and of tasks that compare vectors are of different scales. Where a run has
both, or several of the latter, nothing here is taken over all of its steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from kl3m_embeddings.report.read.log_table import SIMILARITIES
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import first, last, mean, percentile

NUM_WINDOWS = 10
LAST_STEPS = (100, 1000, 10000)


@dataclass(frozen=True, kw_only=True)
class LossStatistics:
    """The loss over the run; averages are moving ones, over `window` steps."""

    window: int
    first: float | None
    last: float | None
    min: float | None
    last_average: float | None
    best_average: float | None
    """The lowest one of a full window, if there is any."""
    best_average_step: int | None
    mean_of_last: dict[str, float | None]
    """By the number of steps: those of `LAST_STEPS` that the run is long enough for."""


@dataclass(frozen=True, kw_only=True)
class LossWindow:
    """A stretch of the run: its losses, the median gradient norm and the speed."""

    first_step: int
    last_step: int
    mean: float | None
    p5: float | None
    median: float | None
    p95: float | None
    grad_norm: float | None
    tokens_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class MixedLossWindow:
    """A stretch of a run that mixes losses: as `LossWindow`, with a mean loss for each task."""

    first_step: int
    last_step: int
    grad_norm: float | None
    tokens_per_s: float | None
    mean_by_task: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class LossOfName:
    """The loss of a task or of a reduced dimension, `name`; None is no task, or all dimensions.

    `first_` is over the run's first tenth, `last_` over its last; `share` is of the steps.
    """

    name: str | float | None
    num_steps: int
    share: float
    num_tokens: float | None
    first_mean: float | None
    last_mean: float | None
    last_p5: float | None
    last_p95: float | None
    last_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class LossOfTask(LossOfName):
    """The loss of a task of a run that mixes losses: also over the run; None if it has no name."""

    loss: LossStatistics | None


class TaskSteps(NamedTuple):
    """A task's steps and the moving average's window for them.

    The window is what the task has, on average, of a window of all steps: the averages of all tasks
    span the same stretch of the run.
    """

    task: str
    steps: pl.DataFrame
    window: int

    def average(self, column: str = "loss") -> pl.DataFrame:
        """See `moving_average`."""
        return moving_average(self.steps, self.window, column)


def steps_by_task(run: Run, window: int) -> list[TaskSteps]:
    """The steps of each task, the most frequent first."""
    fields = run.steps.select("step", "task", "loss", "temperature", *SIMILARITIES)
    by_task = [(task, fields.filter(pl.col("task") == task)) for task in run.tasks]
    return [
        TaskSteps(task, steps, max(1, round(window * steps.height / run.steps.height)))
        for task, steps in by_task
    ]


def moving_average(steps: pl.DataFrame, window: int, column: str = "loss") -> pl.DataFrame:
    """Columns step, `column`, average: of the last `window` steps that have it, or fewer."""
    average = pl.col(column).rolling_mean(window, min_samples=1)
    return steps.select("step", column).drop_nulls().with_columns(average=average)


def loss_statistics(steps: pl.DataFrame, window: int) -> LossStatistics:
    """The first, last and lowest loss; the lowest average is one of a full window, if there is."""
    losses = moving_average(steps, window)
    full = losses.slice(max(0, min(window, losses.height) - 1))
    best = full.filter(pl.col("average") == pl.col("average").min())
    return LossStatistics(
        window=window,
        first=first(losses["loss"]),
        last=last(losses["loss"]),
        min=percentile(losses["loss"], 0),
        last_average=last(losses["average"]),
        best_average=first(best["average"]),
        best_average_step=best["step"][0] if len(best) else None,
        mean_of_last={
            str(num_steps): mean(losses["loss"].tail(num_steps))
            for num_steps in LAST_STEPS
            if losses.height >= num_steps
        },
    )


def loss_by_window(run: Run) -> list[LossWindow] | list[MixedLossWindow]:
    """The run in ten windows of equally many logged steps: loss, gradient norm, speed.

    Where losses are mixed, they are means of each task.
    """
    size = max(1, -(-run.steps.height // NUM_WINDOWS))
    window = (pl.int_range(pl.len()) // size).alias("window")
    rows = (
        run.steps.group_by(window, maintain_order=True)
        .agg(
            pl.col("step").first().alias("first_step"),
            pl.col("step").last().alias("last_step"),
            *([] if run.mixes_losses else loss_summary()),
            pl.col("grad_norm").median(),
            (pl.col("num_tokens").sum() / pl.col("step_time").sum()).alias("tokens_per_s"),
        )
        .drop("window")
        .to_dicts()
    )
    if not run.mixes_losses:
        return [LossWindow(**row) for row in rows]
    means = means_by_task(run, window)
    return [
        MixedLossWindow(**row, mean_by_task={task: means.get((index, task)) for task in run.tasks})
        for index, row in enumerate(rows)
    ]


def means_by_task(run: Run, window: pl.Expr) -> dict[tuple[int, str], float | None]:
    """The mean loss of each task in each window."""
    means = (
        run.steps.select(window, "task", "loss")
        .group_by("window", "task")
        .agg(pl.col("loss").mean())
        .drop_nulls()
    )
    return {(index, task): mean for index, task, mean in means.rows()}


def loss_summary() -> list[pl.Expr]:
    """Mean, median and the 5th and 95th percentile of the loss."""
    loss = pl.col("loss")
    return [
        loss.mean().alias("mean"),
        loss.quantile(0.05).alias("p5"),
        loss.median().alias("median"),
        loss.quantile(0.95).alias("p95"),
    ]


def loss_by(steps: pl.DataFrame, column: str) -> list[LossOfName]:
    """The loss of each value of `column`: in the first tenth of the run, and in the last."""
    if not steps[column].count():
        return []
    tenth = max(1, steps.height // 10)
    row = pl.int_range(pl.len())
    loss = pl.col("loss")
    is_last = pl.col("row") >= steps.height - tenth
    # tasks as `Run.tasks` has them: those of equally many steps by name, or every call had its own
    order = ("num_steps", pl.col("name").cast(pl.String)) if column == "task" else ("name", "share")
    rows = (
        steps.with_columns(row=row)
        .group_by(pl.col(column).alias("name"))
        .agg(
            pl.len().alias("num_steps"),
            (pl.len() / steps.height).alias("share"),
            pl.col("num_tokens").sum(),
            loss.filter(pl.col("row") < tenth).mean().alias("first_mean"),
            loss.filter(is_last).mean().alias("last_mean"),
            loss.filter(is_last).quantile(0.05).alias("last_p5"),
            loss.filter(is_last).quantile(0.95).alias("last_p95"),
            pl.col("accuracy").filter(is_last).mean().alias("last_accuracy"),
        )
        .sort(*order, descending=[True, False])
    )
    return [LossOfName(**one) for one in rows.to_dicts()]


def loss_by_task(run: Run, window: int) -> Sequence[LossOfName]:
    """As `loss_by`; where losses are mixed, also what `loss_statistics` has, of each task."""
    rows = loss_by(run.steps, "task")
    if not run.mixes_losses:
        return rows
    whole: dict[object, LossStatistics] = {
        one.task: loss_statistics(one.steps, one.window) for one in steps_by_task(run, window)
    }
    return [LossOfTask(**vars(row), loss=whole.get(row.name)) for row in rows]


def reducing_steps(run: Run) -> pl.DataFrame:
    """The steps whose losses by `reduced_dim` can be compared."""
    if not run.mixes_losses:
        return run.steps
    return run.steps.filter(~pl.col("task").cast(pl.String).is_in(run.embedding_tasks))
