"""Held-out pairs over the steps: one panel a set, what counts most in bold, at every size."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import count, number, printable
from kl3m_embeddings.report.plots.parts import (
    listed,
    mark_resumes,
    step_axis_of,
    subtitle,
)
from kl3m_embeddings.report.plots.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILLION,
    Label,
    footnote,
    label_right,
    legend,
    new_figure,
    place,
    tinted,
    value_axis,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.pair_metrics import MetricField, MetricSet, find_sets

MAX_SETS = 6
MAX_DIMS = 6
LABEL_IN, MIN_PANEL_IN, HEAD_AND_FOOT_IN = 0.168, 1.3, 1.75
PALEST = 0.62
HEADROOM = 0.1  # of the axis, for the best value's text
MAX_MARKERS = 12
OTHER_COLOURS = (ORANGE, GREEN, PURPLE, VERMILLION)


def pair_metrics_by_step(run: Run, window: int) -> Figure | str | None:
    """Every metric at the full size, and the one that counts most at the smaller ones, too."""
    sets = find_sets(run.evals)
    if not sets:
        return "eval.jsonl has no metric of held-out pairs" if run.embedding_tasks else None
    panels = sets[:MAX_SETS]
    heights_in = [max(MIN_PANEL_IN, LABEL_IN * num_lines(one)) for one in panels]
    figure = new_figure(
        listed("Held-out now", [headline(one) for one in sets]),
        subtitle(run),
        HEAD_AND_FOOT_IN + sum(heights_in),
    )
    axes = place(
        figure, len(panels), right_in=1.95, left_in=0.85, hspace=0.14, height_ratios=heights_in
    )
    step_axis_of(axes[-1], run)
    for panel, one in zip(axes, panels, strict=True):
        draw_set(panel, one)
        mark_resumes(panel, run, label=True)
    figure.align_ylabels(axes)
    legend(axes[0])
    more = f"The first {MAX_SETS} of {len(sets):,} sets. " if len(sets) > MAX_SETS else ""
    footnote(figure, f"{more}Each label gives the last value of its line.")
    return figure


def num_lines(one: MetricSet) -> int:
    """How many lines a set's panel has."""
    return len(one.of_headline()[:MAX_DIMS]) + len(one.others())


def headline(one: MetricSet) -> str:
    """A set with the last value of what counts most, and the best if that is another one."""
    field = one.headline
    return f"{printable(one.name, 16)} {field.metric} {number(field.last, 3)}"


def draw_set(axes: Axes, one: MetricSet) -> None:
    """The metrics of one set; the other ones are thin, and behind. The x axis must be set."""
    labels, seen = [], []
    for field, colour in zip(one.others(), OTHER_COLOURS, strict=False):
        labels.append(draw_field(axes, field, colour, 0.9, field.metric))
        seen += field.points["value"].to_list()
    sizes = one.of_headline()[:MAX_DIMS]
    for index, field in reversed(list(enumerate(sizes))):
        colour = tinted(BLUE, PALEST * index / max(1, len(sizes) - 1))
        name = field.metric if field.dim is None else f"at {field.dim}"
        labels.append(draw_field(axes, field, colour, 2.2 if index == 0 else 1.7, name))
        seen += field.points["value"].to_list()
    best, step = one.headline.best or (0.0, 0)
    axes.plot(
        [step], [best], "o", markersize=7, markerfacecolor="none", markeredgecolor=BLUE,
        markeredgewidth=1.1, zorder=6, label="best",
    )  # fmt: skip
    is_early = step < sum(axes.get_xlim()) / 2
    axes.annotate(
        f"{number(best, 3)} at {count(step)}", (step, best), xytext=(0, 5), color=BLUE, size=7.5,
        textcoords="offset points", ha="left" if is_early else "right", va="bottom", zorder=7,
    )  # fmt: skip
    value_axis(axes, "", min(seen), max(seen) + HEADROOM * (max(seen) - min(seen)))
    axes.set_ylabel(printable(one.name, 18), weight="bold")
    label_right(axes, labels)


def draw_field(axes: Axes, field: MetricField, colour: str, width: float, name: str) -> Label:
    """One line; returns its label."""
    axes.plot(
        field.points["step"], field.points["value"], color=colour, linewidth=width,
        marker="o" if len(field.points) <= MAX_MARKERS else "", markersize=1 + 1.4 * width,
        zorder=2 + width,
    )  # fmt: skip
    return Label(field.points["value"][-1], f"{number(field.last, 3)}  {name}", colour)
