"""The score against the size of the embedding: how much do the first dimensions hold?

Matryoshka training is to put the most into the first ones, so as many that were drawn at random
are the control (dashed): where both are alike, the order of the dimensions means nothing.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kl3m_embeddings.report.names import number, percent, printable
from kl3m_embeddings.report.plots.parts import subtitle
from kl3m_embeddings.report.plots.style import (
    DARK,
    GREY,
    SERIES,
    TOP_IN,
    Label,
    footnote,
    label_right,
    new_figure,
    place,
    value_axis,
)
from kl3m_embeddings.report.read.benchmark import newest, unique_task_names
from kl3m_embeddings.report.read.benchmark_rows import FULL_PRECISION, Score
from kl3m_embeddings.report.read.run import Run

MAX_PANELS = 6
PANEL_IN, LABEL_IN, HEAD_AND_FOOT_IN = 1.6, 0.168, 1.7
MARKERS = {"int8": "s", "binary": "^"}
MAX_TICKS = 9


def quality_by_dim(run: Run, window: int) -> Figure | None:
    """A panel a task, a line a model; None unless some model was measured at several sizes."""
    scores = [
        score for score in newest(run.benchmark.scores) if score.score is not None and score.dim > 0
    ]
    models = list(dict.fromkeys(score.model for score in sorted(scores, key=is_baseline)))
    models = models[: len(SERIES)]
    panels = tasks_with_sizes([score for score in scores if score.model in models])
    if not panels:
        return None
    shown = dict(list(panels.items())[:MAX_PANELS])
    height_in = max(PANEL_IN, LABEL_IN * len(models))
    figure = new_figure(title(panels), subtitle(run), HEAD_AND_FOOT_IN + height_in * len(shown))
    axes = place(figure, len(shown), right_in=2.35, left_in=0.85, hspace=0.16, top_in=TOP_IN)
    for panel, (name, of_task) in zip(axes, shown.items(), strict=True):
        draw_task(panel, name, of_task, models)
    dim_axis(axes[-1], sorted({score.dim for of_task in shown.values() for score in of_task}))
    figure.align_ylabels(axes)
    kinds_legend(axes[0], [score for of_task in shown.values() for score in of_task])
    more = f"The first {MAX_PANELS} of {len(panels):,} tasks. " if len(panels) > MAX_PANELS else ""
    footnote(figure, f"{more}Each label gives the score at the model's full size in float32.")
    return figure


def is_baseline(score: Score) -> bool:
    """Whether it is of a model that is there to be compared with."""
    return score.baseline


def tasks_with_sizes(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """The scores of each task for which some model has several sizes or precisions."""
    names = unique_task_names(scores)
    panels: dict[str, list[Score]] = {}
    for score in scores:
        panels.setdefault(names[score.of], []).append(score)
    return {
        name: of_task
        for name, of_task in panels.items()
        if len(of_task) > len({score.model for score in of_task})
    }


def title(panels: dict[str, list[Score]]) -> str:
    """What a model's first dimensions keep of its score."""
    kept: list[tuple[int, float]] = []
    for of_task in panels.values():
        main = {score.model: score for score in of_task if score.is_plain}
        for score in of_task:
            full = main.get(score.model)
            is_first = score.dtype == FULL_PRECISION and not score.control and not score.baseline
            if is_first and full and full.score and score.score and score.dim < full.dim:
                kept.append((score.dim, score.score / full.score))
    if not kept:
        return "Scores by the size of the embedding"
    smallest = min(dim for dim, _ in kept)
    shares = [share for dim, share in kept if dim == smallest]
    return (
        f"The first {smallest:,} dimensions keep {percent(sum(shares) / len(shares))} of the score"
    )


def draw_task(axes: Axes, name: str, scores: Sequence[Score], models: Sequence[str]) -> None:
    """The lines of all models, their controls and other precisions."""
    labels, seen = [], []
    for model, colour in zip(models, SERIES, strict=False):
        own = [score for score in scores if score.model == model]
        lines = {
            control: sorted(
                (score.dim, score.score)
                for score in own
                if score.dtype == FULL_PRECISION and score.control == control
                and score.score is not None
            )
            for control in (False, True)
        }  # fmt: skip
        for control, points in lines.items():
            axes.plot(
                *zip(*points, strict=True) if points else ([], []), color=colour,
                linewidth=1.1 if control else 1.7, linestyle=(0, (3, 2)) if control else "solid",
                marker="o", markersize=2.5 if control else 3.6,
            )  # fmt: skip
        for score in own:
            if score.dtype in MARKERS and score.score is not None:
                axes.plot(
                    [score.dim], [score.score], MARKERS[score.dtype], markersize=6, zorder=5,
                    markerfacecolor="white", markeredgecolor=colour, markeredgewidth=1.3,
                )  # fmt: skip
        seen += [score.score for score in own if score.score is not None]
        if lines[False]:
            last = lines[False][-1][1]
            labels.append(
                Label(last, f"{number(last, 3)}  {printable(model.rsplit('/')[-1], 20)}", colour)
            )
    value_axis(axes, "", min(seen), max(seen))
    axes.set_ylabel(printable(name, 20), weight="bold")
    label_right(axes, labels)


def dim_axis(axes: Axes, dims: Sequence[int]) -> None:
    """A logarithmic x axis with the sizes that were measured."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(dims[0] / 1.15, dims[-1] * 1.15)
    every = -(-len(dims) // MAX_TICKS)
    axes.xaxis.set_major_locator(FixedLocator([float(dim) for dim in dims[::-1][::every]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("dimensions")


def kinds_legend(axes: Axes, scores: Sequence[Score]) -> None:
    """What lines and marks stand for, of those that are drawn."""
    entries = {"first dimensions": Line2D([], [], color=DARK, marker="o", markersize=3.6)}
    if any(score.control for score in scores):
        entries["drawn at random"] = Line2D(
            [], [], color=GREY, linestyle=(0, (3, 2)), marker="o", markersize=2.5
        )
    for dtype, marker in MARKERS.items():
        if any(score.dtype == dtype for score in scores):
            entries[dtype] = Line2D(
                [], [], linestyle="", marker=marker, markerfacecolor="white", markeredgecolor=DARK
            )
    axes.legend(
        entries.values(), entries, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(entries),
        borderaxespad=0.3, borderpad=0, handlelength=2.2, columnspacing=1.5,
    )  # fmt: skip
