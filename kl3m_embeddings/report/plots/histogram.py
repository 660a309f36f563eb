"""How the loss of each task is distributed: the last quarter of the run before the first one."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import counted, number, printable
from kl3m_embeddings.report.plots.parts import listed, subtitle
from kl3m_embeddings.report.plots.style import (
    BLACK,
    GREY,
    SERIES,
    footnote,
    legend,
    log_ticks,
    new_figure,
    place,
    spans_scales,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import median, percentile

MAX_TASKS = 8
NUM_BARS = 40
OUTLIER = 3.0


def loss_hist_by_task(run: Run, window: int) -> Figure | str:
    """One histogram a task, one above the other; over the same losses, unless they are mixed."""
    rows = run.steps.with_row_index("row").drop_nulls("loss")
    if rows.is_empty():
        return "the log has no loss"
    rows = rows.select("row", "loss", pl.col("task").cast(pl.String).fill_null("all steps"))
    tasks = rows["task"].value_counts(sort=True)["task"].to_list()
    edges, is_log = bar_edges(rows["loss"])
    quarter = run.steps.height // 4
    first = rows.filter(pl.col("row") < quarter)
    last = rows.filter(pl.col("row") >= run.steps.height - max(1, quarter))
    if run.mixes_losses:
        return hist_of_mixed_losses(run, rows, first, last)
    figure = new_figure(title(last, tasks), subtitle(run), 1.9 + 0.72 * min(len(tasks), MAX_TASKS))
    axes = place(figure, min(len(tasks), MAX_TASKS), left_in=1.3, right_in=1.5, hspace=0.25)
    for panel, task, colour in zip(axes, tasks, SERIES, strict=False):
        is_task = pl.col("task") == task
        draw_histogram(
            panel, first.filter(is_task)["loss"], last.filter(is_task)["loss"], edges, colour
        )
        panel.set_ylabel(
            printable(task, 16), rotation=0, ha="right", va="bottom", y=0.0, weight="bold"
        )
    if is_log:
        axes[-1].set_xscale("log")
        log_ticks(axes[-1].xaxis)
    axes[-1].set_xlabel("loss of a step")
    legend(axes[0])
    more = (
        f"The {MAX_TASKS} most frequent of {len(tasks):,} tasks. " if len(tasks) > MAX_TASKS else ""
    )
    num_outside = len(rows) - int(rows["loss"].is_between(edges[0], edges[-1]).sum())
    footnote(
        figure,
        f"{more}Height: share of the steps of that quarter. "
        f"Outside of the axis: {counted(num_outside, 'step')}.",
    )
    return figure


def hist_of_mixed_losses(
    run: Run, rows: pl.DataFrame, first: pl.DataFrame, last: pl.DataFrame
) -> Figure:
    """One histogram a task, each over losses of its own."""
    tasks = run.tasks[:MAX_TASKS]
    medians = [
        f"{printable(task, 16)} {number(median(last.filter(task=task)['loss']), 3)}"
        for task in run.tasks
    ]
    height_in = 1.9 + 0.95 * len(tasks)
    figure = new_figure(listed("Median loss now", medians), subtitle(run), height_in)
    panels = place(figure, len(tasks), left_in=1.6, right_in=1.5, hspace=0.65, sharex=False)
    num_outside = 0
    for axes, task, colour in zip(panels, tasks, SERIES, strict=False):
        losses = rows.filter(task=task)["loss"]
        edges, is_log = bar_edges(losses)
        draw_histogram(
            axes, first.filter(task=task)["loss"], last.filter(task=task)["loss"], edges, colour
        )
        axes.set_ylabel(
            printable(task, 16), rotation=0, ha="right", va="bottom", y=0.0, weight="bold"
        )
        if is_log:
            axes.set_xscale("log")
            log_ticks(axes.xaxis)
        num_outside += len(losses) - int(losses.is_between(edges[0], edges[-1]).sum())
    panels[-1].set_xlabel("loss of a step; each task has a scale of its own")
    legend(panels[0])
    footnote(
        figure,
        "Height: share of the steps of that quarter. "
        f"Outside of the axes: {counted(num_outside, 'step')}.",
    )
    return figure


def bar_edges(losses: pl.Series) -> tuple[np.ndarray, bool]:
    """The edges of the bars, without far outliers, and whether they rise by factors."""
    low, high = percentile(losses, 0.1) or 0.0, percentile(losses, 99.9) or 0.0
    high = min(high, OUTLIER * (percentile(losses, 98) or 0.0))
    if high <= low:
        return np.linspace(low, low + 1, NUM_BARS + 1), False
    is_log = spans_scales(losses) and low > 0
    return (np.geomspace if is_log else np.linspace)(low, high, NUM_BARS + 1), is_log


def title(last: pl.DataFrame, tasks: list[str]) -> str:
    """Says which task is easiest now and which hardest."""
    medians = last.group_by("task").agg(pl.col("loss").median()).sort("loss").rows()
    if len(medians) < 2:
        return f"The loss of a step now has median {number(median(last['loss']), 3)}"
    (easiest, low), (hardest, high) = medians[0], medians[-1]
    return (
        f"{printable(easiest, 16)} has the lowest median loss now, {number(low, 3)}; "
        f"{printable(hardest, 16)} the highest, {number(high, 3)}"
    )


def draw_histogram(
    axes: Axes, first: pl.Series, last: pl.Series, edges: np.ndarray, colour: str
) -> None:
    """The share of steps in each bar, of the last steps and of the first."""
    middle = median(last)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlim(edges[0], edges[-1])
    if len(first):
        axes.stairs(
            np.histogram(first, edges)[0] / len(first),
            edges, color=GREY, linewidth=1.1, zorder=3, label="first quarter of the run",
        )  # fmt: skip
    if len(last):
        heights = np.histogram(last, edges)[0] / len(last)
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.85, label="last quarter")
        axes.axvline(middle or 0, color=BLACK, linewidth=1, zorder=4, label="its median")
    axes.text(
        1.03, 0.3, f"median {number(middle, 3)}\n{counted(len(last), 'step')}",
        transform=axes.transAxes, size=8.5, va="center",
    )  # fmt: skip
