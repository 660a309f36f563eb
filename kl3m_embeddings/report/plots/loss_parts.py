"""What the plots of the loss are drawn of: series of steps, evaluations, rates, events."""

import polars as pl
from matplotlib.axes import Axes

from kl3m_embeddings.report.names import count, number
from kl3m_embeddings.report.plots.binning import bin_width, binned, percentile_band
from kl3m_embeddings.report.plots.parts import mark_resumes, marker_for, thinned
from kl3m_embeddings.report.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    SKY,
    VERMILLION,
    Label,
    label_right,
    spans_scales,
    value_axis,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent, percentile

MAX_DOTS = 1500
BAND_BINS = 120
MAX_WHISKERS = 30
OUTLIER = 3.0


def draw_training_loss(axes: Axes, losses: pl.DataFrame, window: int) -> list[float]:
    """The losses of single steps under their moving average; returns the values seen."""
    average = f"moving average, last {window:,} steps" if window > 1 else None
    return draw_series(axes, losses, "loss", SKY, BLUE, names=("training loss", average))


def draw_series(
    axes: Axes,
    points: pl.DataFrame,
    column: str,
    faint: str,
    strong: str,
    names: tuple[str | None, str | None] = (None, None),
) -> list[float]:
    """A value of single steps, faintly, under its moving average; returns the values seen.

    Args:
        axes: to draw into.
        points: the steps, `column`, and its average.
        column: of the single values.
        faint: the colour of single values, or of the band that they are in.
        strong: the colour of the average.
        names: in the legend, of the value and of the average.
    """
    shown = thinned(points)
    value, average = names
    # Not all averages: a single outlier would lift a whole window of them.
    seen: list[float] = [shown["average"][0], shown["average"][-1]]
    if points.height <= MAX_DOTS:
        axes.plot(
            points["step"], points[column], "o", color=faint, alpha=0.75, markeredgewidth=0,
            markersize=2.8 if points.height > 200 else 4, label=value and f"{value} of each step",
        )  # fmt: skip
        seen += points[column].to_list()
    else:
        band = binned(points, *percentile_band(column), num_bins=BAND_BINS)
        axes.fill_between(
            band["step"], band["p5"], band["p95"], color=faint, alpha=0.32, linewidth=0,
            label=value and f"{value}, p5 to p95",
        )  # fmt: skip
        seen += band["p5"].to_list() + band["p95"].to_list()
    axes.plot(shown["step"], shown["average"], color=strong, linewidth=1.8, zorder=4, label=average)
    return seen


def rate_title(rates: pl.DataFrame) -> str:
    """The learning rate now, and whether it is past its peak."""
    last, peak = rates["lr"][-1], extent(rates["lr"])[1]
    at_peak = "at its peak" if last == peak else f"past its peak of {number(peak, 3)}"
    return f"Learning rate {number(last, 3)}, {at_peak}"


def draw_rates(axes: Axes, rates: pl.DataFrame) -> None:
    """The learning rate over the steps."""
    last, (lowest, peak) = rates["lr"][-1], extent(rates["lr"])
    shown = thinned(rates)
    is_exponential = 20 * (percentile(rates["lr"], 50) or 0) < peak  # half the run is far below it
    marker = "o" if len(shown) == 1 else ""
    axes.plot(shown["step"], shown["lr"], marker=marker, color=GREEN, linewidth=1.8)
    value_axis(axes, "learning rate", lowest, peak, log=is_exponential)
    labels = [Label(last, f"last {number(last, 3)}", GREEN)]
    if last < peak:
        labels.append(Label(peak, f"peak {number(peak, 3)}", GREEN))
    label_right(axes, labels)


def draw_evals(axes: Axes, evals: pl.DataFrame) -> list[float]:
    """The mean of each evaluation, some with their p5 to p95 range; returns the values seen."""
    axes.plot(
        evals["step"], evals["mean"], marker=marker_for(evals), color=VERMILLION, markersize=3.4,
        linewidth=1, zorder=5, label="held-out mean",
    )  # fmt: skip
    seen: list[float] = evals["mean"].to_list()
    if {"p5", "p95"} <= set(evals.columns):
        ranges = evals.drop_nulls(["p5", "p95"]).reverse()
        ranges = ranges.gather_every(max(1, -(-ranges.height // MAX_WHISKERS)))
        axes.vlines(
            ranges["step"], ranges["p5"], ranges["p95"], color=VERMILLION, alpha=0.38,
            linewidth=1.1, label="held-out p5 to p95",
        )  # fmt: skip
        seen += ranges["p5"].to_list() + ranges["p95"].to_list()
    return seen


def eval_labels(evals: pl.DataFrame) -> list[Label]:
    """The last evaluation and, if it is another one, the best."""
    last = evals["mean"][-1]
    best = evals.sort("mean")[0]
    if best["mean"][0] == last:
        return [Label(last, f"held-out {number(last, 3)}, best", VERMILLION)]
    at = f"best {number(best['mean'][0], 3)} at {count(best['step'][0])}"
    return [
        Label(last, f"held-out {number(last, 3)}", VERMILLION),
        Label(best["mean"][0], at, VERMILLION),
    ]


def limit_loss(axes: Axes, seen: list[float], averages: pl.Series) -> str:
    """Set the loss axis; far outliers are left outside of it, and the note returned says so."""
    values = pl.Series(seen)
    (low, high), usual = extent(values), percentile(values, 98) or 0
    is_cut = high > OUTLIER * usual > 0
    value_axis(axes, "loss", low, 1.2 * usual if is_cut else high, log=spans_scales(averages))
    return f"Above the axis: values up to {number(high, 3)}." if is_cut else ""


def mark_events(axes: Axes, run: Run) -> None:
    """Skipped steps at the foot of the axes, and the steps at which the run was resumed."""
    mark_resumes(axes, run, label=True)
    skipped = run.steps.filter("skipped")
    mark_skipped(axes, skipped, f"skipped ({len(skipped):,})")


def mark_skipped(axes: Axes, skipped: pl.DataFrame, name: str) -> None:
    """The steps of `skipped` at the foot of the axes."""
    if len(skipped):
        at = binned(skipped, pl.len())["step"]
        axes.plot(
            at, [0.018] * len(at), "x", color=BLACK, markersize=3.5, markeredgewidth=0.9,
            transform=axes.get_xaxis_transform(), zorder=6, clip_on=False,
            label=name,
        )  # fmt: skip


def spread_note(losses: pl.DataFrame) -> str:
    """What the band is made of."""
    if losses.height <= MAX_DOTS:
        return ""
    return f"p5 to p95: 5th to 95th percentile of every {bin_width(losses, BAND_BINS):,} steps."
