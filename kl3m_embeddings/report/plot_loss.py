"""The loss over the steps, with the evaluations, and beside the learning rate."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.binning import bin_width, binned, percentile_band
from kl3m_embeddings.report.columns import extent, percentile
from kl3m_embeddings.report.names import count, number
from kl3m_embeddings.report.plot_parts import (
    mark_resumes,
    marker_for,
    moved,
    step_axis_of,
    subtitle,
    thinned,
)
from kl3m_embeddings.report.run import Run
from kl3m_embeddings.report.statistics import moving_average
from kl3m_embeddings.report.style import (
    BLACK,
    BLUE,
    GREEN,
    SKY,
    TOP_WITHOUT_LEGEND_IN,
    VERMILLION,
    Label,
    footnote,
    label_right,
    legend,
    new_figure,
    place,
    spans_scales,
    value_axis,
)

MAX_DOTS = 1500
BAND_BINS = 120
MAX_WHISKERS = 30
OUTLIER = 3.0


def loss_by_step(run: Run, window: int) -> Figure | str:
    """Training loss and held-out loss on the same axes."""
    losses = moving_average(run.steps, window)
    if losses.is_empty():
        return "the log has no loss"
    last = losses["average"][-1]
    title = f"Training loss {moved(losses['loss'][0], last)}"
    evals = run.evals.drop_nulls("mean") if run.has_eval("mean") else run.evals.clear()
    if len(evals):
        title += f"; held-out loss {moved(evals['mean'][0], evals['mean'][-1])}"
    figure = new_figure(title, subtitle(run))
    [axes] = place(figure, right_in=1.6)
    seen = draw_training_loss(axes, run, losses, window)
    labels = [Label(last, f"training {number(last, 3)}", BLUE)]
    if len(evals):
        seen += draw_evals(axes, evals)
        labels += eval_labels(evals)
    cut = limit_loss(axes, seen, losses["average"])
    mark_events(axes, run)
    step_axis_of(axes, run)
    legend(axes)
    label_right(axes, labels)
    footnote(figure, "  ".join([spread_note(losses), cut]))
    return figure


def learning_rate_loss(run: Run, window: int) -> Figure | str:
    """The learning rate above the loss, over the same steps."""
    rates = run.steps.select("step", "lr").drop_nulls()
    losses = moving_average(run.steps, window)
    if rates.is_empty() or losses.is_empty():
        return "the log has no learning rate" if rates.is_empty() else "the log has no loss"
    last_rate, (lowest, peak) = rates["lr"][-1], extent(rates["lr"])
    at_peak = "at its peak" if last_rate == peak else f"past its peak of {number(peak, 3)}"
    figure = new_figure(
        f"Learning rate {number(last_rate, 3)}, {at_peak}; training loss "
        f"{number(losses['average'][-1], 3)}",
        subtitle(run),
        height_in=5.6,
    )
    upper, lower = place(
        figure, 2, height_ratios=(2.0, 3.0), hspace=0.2, left_in=0.85, top_in=TOP_WITHOUT_LEGEND_IN
    )
    shown = thinned(rates)
    is_exponential = 20 * (percentile(rates["lr"], 50) or 0) < peak  # half the run is far below it
    marker = "o" if len(shown) == 1 else ""
    upper.plot(shown["step"], shown["lr"], marker=marker, color=GREEN, linewidth=1.8)
    value_axis(upper, "learning rate", lowest, peak, log=is_exponential)
    labels = [Label(last_rate, f"last {number(last_rate, 3)}", GREEN)]
    if last_rate < peak:
        labels.append(Label(peak, f"peak {number(peak, 3)}", GREEN))
    label_right(upper, labels)

    seen = draw_training_loss(lower, run, losses, window)
    cut = limit_loss(lower, seen, losses["average"])
    mark_events(lower, run)
    mark_resumes(upper, run)
    step_axis_of(lower, run)
    legend(lower)
    last = losses["average"][-1]
    label_right(lower, [Label(last, f"training {number(last, 3)}", BLUE)])
    footnote(figure, "  ".join([spread_note(losses), cut]))
    return figure


def draw_training_loss(axes: Axes, run: Run, losses: pl.DataFrame, window: int) -> list[float]:
    """The losses of single steps, faintly, under their moving average; returns the values seen."""
    shown = thinned(losses)
    # Not all averages: a single outlier would lift a whole window of them.
    seen: list[float] = [shown["average"][0], shown["average"][-1]]
    if losses.height <= MAX_DOTS:
        axes.plot(
            losses["step"], losses["loss"], "o", color=SKY, alpha=0.75, markeredgewidth=0,
            markersize=2.8 if losses.height > 200 else 4, label="training loss of each step",
        )  # fmt: skip
        seen += losses["loss"].to_list()
    else:
        band = binned(losses, *percentile_band("loss"), num_bins=BAND_BINS)
        axes.fill_between(
            band["step"], band["p5"], band["p95"], color=SKY, alpha=0.32, linewidth=0,
            label="training loss, p5 to p95",
        )  # fmt: skip
        seen += band["p5"].to_list() + band["p95"].to_list()
    axes.plot(
        shown["step"], shown["average"], color=BLUE, linewidth=1.8, zorder=4,
        label=f"moving average, last {window:,} steps" if window > 1 else None,
    )  # fmt: skip
    return seen


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
    if len(skipped):
        at = binned(skipped, pl.len())["step"]
        axes.plot(
            at, [0.018] * len(at), "x", color=BLACK, markersize=3.5, markeredgewidth=0.9,
            transform=axes.get_xaxis_transform(), zorder=6, clip_on=False,
            label=f"skipped ({len(skipped):,})",
        )  # fmt: skip


def spread_note(losses: pl.DataFrame) -> str:
    """What the band is made of."""
    if losses.height <= MAX_DOTS:
        return ""
    return f"p5 to p95: 5th to 95th percentile of every {bin_width(losses, BAND_BINS):,} steps."
