"""What is drawn of several runs: each run's values along its steps or its tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl
from matplotlib.axes import Axes

from kl3m_embeddings.report.names import number, printable
from kl3m_embeddings.report.plots.parts import marker_for, thinned
from kl3m_embeddings.report.plots.style import SERIES, Label, label_right, spans_scales, value_axis
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent
from kl3m_embeddings.report.statistics.losses import moving_average, steps_by_task

NAME_LENGTH = 18
LINES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)))
# Where each step lies: columns step and x.
Along = Callable[[pl.DataFrame], pl.DataFrame]


class Curve(NamedTuple):
    """A run's name, its values with the columns x and y, and its position among the runs."""

    name: str
    points: pl.DataFrame
    run_index: int


def by_step(steps: pl.DataFrame) -> pl.DataFrame:
    """Where each step lies on an axis of steps."""
    return steps.select("step", x=pl.col("step").cast(pl.Float64))


def by_tokens(steps: pl.DataFrame) -> pl.DataFrame:
    """Where each step lies on an axis of tokens."""
    return steps.select("step", x=pl.col("num_tokens").cum_sum()).drop_nulls()


def loss_along(run: Run, window: int, along: Along) -> pl.DataFrame:
    """The average training loss."""
    return placed(moving_average(run.steps, window), along(run.steps))


def task_losses_along(run: Run, window: int, along: Along) -> dict[str, pl.DataFrame]:
    """The average training loss of each task that has any."""
    places = along(run.steps)
    losses = {one.task: placed(one.average(), places) for one in steps_by_task(run, window)}
    return {task: points for task, points in losses.items() if len(points)}


def placed(averages: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """The averages of some steps, at the places of all, thinned out."""
    return thinned(averages.join(places, on="step", maintain_order="left")).select("x", y="average")


def metric_along(run: Run, points: pl.DataFrame, along: Along) -> pl.DataFrame:
    """The values of a metric; what was measured before the first step is at 0."""
    places = along(run.steps)
    if len(places) and places["step"][0] > 0:
        places = pl.concat([pl.DataFrame({"step": [0], "x": [0.0]}, schema=places.schema), places])
    return evals_along(points, "value", places)


def evals_along(evals: pl.DataFrame, column: str, places: pl.DataFrame) -> pl.DataFrame:
    """A column of evaluations, each at the last step that was before it."""
    if column not in evals.columns:
        return pl.DataFrame()
    return (
        evals.drop_nulls(column).join_asof(places, on="step").drop_nulls("x").select("x", y=column)
    )


def draw_panel(axes: Axes, curves: Sequence[Curve], name: str) -> None:
    """One line a run, labelled with the run's name and its last value."""
    labels = []
    for run_name, points, index in curves:
        colour = SERIES[index % len(SERIES)]
        axes.plot(
            points["x"], points["y"], color=colour, linewidth=1.5, marker=marker_for(points),
            markersize=3, linestyle=LINES[index // len(SERIES) % len(LINES)],
        )  # fmt: skip
        last = points["y"][-1]
        labels.append(Label(last, f"{number(last, 3)}  {printable(run_name, NAME_LENGTH)}", colour))
    values = pl.concat([curve.points["y"] for curve in curves])
    value_axis(axes, name, *extent(values), log=spans_scales(values))
    label_right(axes, labels)
