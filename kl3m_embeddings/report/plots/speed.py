"""Where the time of a step goes: its phases, one upon the other, add up to the step time."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kl3m_embeddings.report.names import count, counted, duration, percent
from kl3m_embeddings.report.plots.binning import bin_width, binned, to_edges
from kl3m_embeddings.report.plots.parts import mark_resumes, subtitle
from kl3m_embeddings.report.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    Label,
    footnote,
    label_right,
    legend,
    new_figure,
    place,
    step_axis,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent, percentile
from kl3m_embeddings.report.statistics.steps import PhaseTime, is_usual, phases

COLOURS = {"sample": SKY, "forward": BLUE, "backward": ORANGE, "optimizer": GREEN, "other": GREY}
NUM_BINS = 60


def step_time_components(run: Run, window: int) -> Figure | str:
    """The phases of a step as a stack."""
    shares = phases(run.steps)
    if not shares:
        return "the log has no step_time, or none of its phases"
    names = [row.name for row in shares]
    step_time_s = sum(row.seconds for row in shares)
    largest = max(shares, key=lambda row: row.share)
    figure = new_figure(
        f"A step takes {duration(step_time_s)}; {percent(largest.share)} of it is {largest.name}",
        subtitle(run),
    )
    [axes] = place(figure, right_in=2.05, left_in=0.85)
    stack = stack_of_phases(run.steps, names)
    areas = to_edges(stack, run.steps)
    axes.stackplot(
        areas["step"], *(areas[name] for name in names), colors=[COLOURS[name] for name in names],
        alpha=0.85, linewidth=0.3, edgecolor="white", step="mid",
    )  # fmt: skip
    axes.plot(
        stack["step"], stack["p95"], color=BLACK, linewidth=0.8, linestyle=(0, (1, 1.5)),
        label="95th percentile of the step time",
    )  # fmt: skip
    mark_resumes(axes, run, label=True)
    top_s = highest(stack, names)
    axes.set_ylim(0, top_s)
    axes.set_ylabel("time of a step")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: duration(seconds)))
    step_axis(axes, *extent(run.steps["step"]))
    legend(axes)
    label_phases(axes, shares)
    width = bin_width(run.steps, NUM_BINS)
    binning = (
        f"Each column: mean over the middle half, by time, of {width:,} steps. "
        if width > 1
        else ""
    )
    footnote(figure, binning + slowest(run.steps, top_s))
    return figure


def stack_of_phases(steps: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """The time of each phase in the usual steps of every bin, and `p95` of the time of all steps.

    `other` is what the step takes beyond its phases, so that the stack adds up to `step_time`.
    """
    measured = [name for name in names if name != "other"]
    times = [pl.col(f"{name}_time").alias(name) for name in measured]
    stack = binned(
        steps,
        *(time.filter(is_usual()).mean().fill_null(0) for time in [*times, pl.col("step_time")]),
        pl.col("step_time").quantile(0.95).alias("p95"),
        num_bins=NUM_BINS,
    )
    return stack.with_columns(other=(pl.col("step_time") - pl.sum_horizontal(measured)).clip(0))


def highest(stack: pl.DataFrame, names: list[str]) -> float:
    """The top of the axis, in seconds: above all but the 2% slowest bins, at most 3 medians."""
    slow_s = stack.select(pl.max_horizontal("p95", pl.sum_horizontal(names))).to_series()
    return 1.12 * min(percentile(slow_s, 98) or 0, 3 * (percentile(slow_s, 50) or 0)) or 1.0


def label_phases(axes: Axes, shares: list[PhaseTime]) -> None:
    """Name each phase beside its layer, with its usual time and its share of the step."""
    labels, bottom = [], 0.0
    for row in shares:
        text = f"{row.name} {duration(row.seconds)} ({percent(row.share)})"
        labels.append(Label(bottom + row.seconds / 2, text, COLOURS[row.name]))
        bottom += row.seconds
    label_right(axes, labels)


def slowest(steps: pl.DataFrame, top_s: float) -> str:
    """Says what lies above the axis."""
    above = steps.filter(pl.col("step_time") > top_s)
    if above.is_empty():
        return ""
    at = above.sort("step_time")[-1]
    return (
        f"Above the axis: {counted(len(above), 'step')}, "
        f"the slowest {duration(at['step_time'][0])} (step {count(at['step'][0])})."
    )
