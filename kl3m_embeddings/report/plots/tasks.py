"""Loss, singular values and embedding quality over the same steps: do they tell the same story?"""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import counted, number, printable
from kl3m_embeddings.report.plots.parts import (
    mark_resumes,
    marker_for,
    moved,
    subtitle,
    thinned,
)
from kl3m_embeddings.report.plots.style import (
    BLUE,
    DARK,
    ORANGE,
    SERIES,
    TOP_WITHOUT_LEGEND_IN,
    VERMILLION,
    Label,
    footnote,
    label_right,
    new_figure,
    place,
    step_axis,
    value_axis,
)
from kl3m_embeddings.report.plots.svd import NAMES
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent
from kl3m_embeddings.report.statistics.losses import moving_average
from kl3m_embeddings.report.statistics.quality import (
    Series,
    mean_quality,
    probe_series,
    score_series,
    svd_and_quality,
)

MAX_TASKS = 7
HEAD_AND_FOOT_IN, PANEL_IN, LABEL_IN = 1.45, 1.35, 0.168
NAME_LENGTH = 20
SCORES_IN = 2.0
# A line: columns step and value, its name and its colour.
Lines = list[tuple[pl.DataFrame, str, str]]


def tasks_by_step(run: Run, window: int) -> Figure | None:
    """The score of each task over the steps, below the loss and the ratios of singular values."""
    series = {**probe_series(run.evals), **score_series(run)}
    if not series:
        return None
    panels = panels_of(run, window)
    heights_in = [
        max(SCORES_IN if "score" in name else PANEL_IN, LABEL_IN * len(lines))
        for name, lines in panels.items()
    ]
    judged = probe_series(run.evals) or series
    figure = new_figure(title(judged), subtitle(run), HEAD_AND_FOOT_IN + sum(heights_in))
    axes = place(
        figure, len(panels), right_in=2.35, left_in=0.75, hspace=0.16, height_ratios=heights_in,
        top_in=TOP_WITHOUT_LEGEND_IN,
    )  # fmt: skip
    for panel, (name, lines) in zip(axes, panels.items(), strict=True):
        draw_lines(panel, lines, name)
        mark_resumes(panel, run)
    tables = [table for table in (run.steps, run.evals, *series.values()) if len(table)]
    ends = [extent(table["step"]) for table in tables]
    step_axis(axes[-1], min(first for first, _ in ends), max(last for _, last in ends))
    figure.align_ylabels(axes)
    footnote(figure, foot(run, [*panels.values()]))
    return figure


def panels_of(run: Run, window: int) -> dict[str, Lines]:
    """The lines of each panel that has any, by the name of its y axis."""
    panels = {
        "loss": loss_lines(run, window),
        "singular values": ratio_lines(run),
        "score in evaluation": quality_lines(probe_series(run.evals)),
        "benchmark score": quality_lines(score_series(run)),
    }
    return {name: lines for name, lines in panels.items() if lines}


def loss_lines(run: Run, window: int) -> Lines:
    """The average training loss, unless its tasks cannot be averaged, and the held-out mean."""
    lines: Lines = []
    losses = moving_average(run.steps, window)
    if len(losses) and not run.mixes_losses:
        lines.append((thinned(losses).select("step", value="average"), "training loss", BLUE))
    if run.has_eval("mean"):
        held_out = run.evals.select("step", value="mean").drop_nulls()
        lines.append((held_out, "held-out loss", VERMILLION))
    return lines


def ratio_lines(run: Run) -> Lines:
    """The ratios of singular values."""
    return [
        (run.evals.select("step", value=name).drop_nulls(), shown, colour)
        for (name, shown), colour in zip(NAMES.items(), (DARK, ORANGE), strict=True)
        if run.has_eval(name)
    ]


def quality_lines(series: Series) -> Lines:
    """Each task's scores, and their mean in bold."""
    lines: Lines = [
        (points, name, colour)
        for (name, points), colour in zip(list(series.items())[:MAX_TASKS], [*SERIES], strict=False)
    ]
    if len(series) > 1:
        lines.append((mean_quality(series)[0], "mean", DARK))
    return [line for line in lines if len(line[0])]


def draw_lines(axes: Axes, lines: Lines, name: str) -> None:
    """Lines with their names and last values at the right."""
    labels = []
    for points, line_name, colour in lines:
        is_mean = line_name == "mean"
        axes.plot(
            points["step"], points["value"], color=colour, linewidth=2.2 if is_mean else 1.4,
            marker=marker_for(points), markersize=3, zorder=4 if is_mean else 3,
        )  # fmt: skip
        last = points["value"][-1]
        labels.append(
            Label(last, f"{number(last, 3)}  {printable(line_name, NAME_LENGTH)}", colour)
        )
    low, high = extent(pl.concat([points["value"] for points, _, _ in lines]))
    value_axis(axes, name, low, high)
    label_right(axes, labels)


def title(series: Series) -> str:
    """How the quality changed."""
    mean, num_tasks = mean_quality(series)
    if mean.is_empty():
        return f"Scores of {counted(len(series), 'task')}"
    of = "Mean score" if num_tasks > 1 else f"{printable(next(iter(series)), 24)}"
    tasks = f" of {num_tasks} tasks" if num_tasks > 1 else ""
    return f"{of}{tasks} {moved(mean['value'][0], mean['value'][-1])}"


def foot(run: Run, panels: list[Lines]) -> str:
    """Whether the ratio foretells quality, and that not every task may be drawn."""
    more = f"At most {MAX_TASKS} tasks are drawn. " if max(map(len, panels)) > MAX_TASKS else ""
    related = svd_and_quality(run)
    if related is None or related.spearman is None:
        return f"{more}Each label gives the last value of its line."
    return (
        f"{more}Spearman's correlation of largest / mean with the mean score: "
        f"{number(related.spearman, 2)} over {related.num_evals:,} evaluations."
    )
