"""Mean similarities of the pairs that a step trains on: do right ones and wrong ones part?"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import counted, number, printable
from kl3m_embeddings.report.plots.loss_parts import draw_series
from kl3m_embeddings.report.plots.parts import mark_resumes, step_axis_of, subtitle, thinned
from kl3m_embeddings.report.plots.style import (
    BLUE,
    ORANGE,
    SERIES,
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
from kl3m_embeddings.report.read.log_table import SIMILARITIES
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent
from kl3m_embeddings.report.statistics.embedding_tasks import kind_of
from kl3m_embeddings.report.statistics.losses import TaskSteps, steps_by_task

MAX_PANELS = 5
PANEL_IN, HEAD_AND_FOOT_IN = 1.35, 1.75
COLOURS = {
    "positive": BLUE,
    "negative": VERMILLION,
    "same": BLUE,
    "similar": ORANGE,
    "diff": VERMILLION,
}
OPPOSITES = (("positive", "negative"), ("same", "diff"))


def similarity_by_step(run: Run, window: int) -> Figure | str | None:
    """The similarities of each task's kinds of pairs and, if it is learnt, the temperature."""
    if not run.embedding_tasks:
        return None
    tasks = [
        one for one in steps_by_task(run, window) if one.task in run.embedding_tasks and kinds(one)
    ]
    if not tasks:
        return "the log has no mean_sim_ field"
    panels = tasks[:MAX_PANELS]
    learnt = [one for one in panels if one.steps["temperature"].n_unique() > 1]
    num_panels = len(panels) + bool(learnt)
    figure = new_figure(
        title(tasks[0]), subtitle(run), HEAD_AND_FOOT_IN + PANEL_IN * max(2, num_panels)
    )
    axes = place(figure, num_panels, right_in=1.75, left_in=0.85, hspace=0.16)
    for panel, one in zip(axes, panels, strict=False):
        draw_task(panel, one)
        mark_resumes(panel, run, label=True)
    if learnt:
        draw_temperatures(axes[-1], learnt)
        mark_resumes(axes[-1], run)
    step_axis_of(axes[-1], run)
    figure.align_ylabels(axes)
    legend(axes[0])
    more = (
        f"The {MAX_PANELS} most frequent of {len(tasks):,} tasks. "
        if len(tasks) > MAX_PANELS
        else ""
    )
    footnote(
        figure,
        f"{more}Mean similarity of a step's pairs, faintly, and its average over "
        f"{counted(window, 'step')} of the run, those of other tasks included.",
    )
    return figure


def kinds(one: TaskSteps) -> dict[str, str]:
    """The kinds of pairs that a task has, and their fields."""
    return {kind_of(column): column for column in SIMILARITIES if one.steps[column].count()}


def title(one: TaskSteps) -> str:
    """How far right and wrong pairs of the most frequent task are apart."""
    known = kinds(one)
    task = printable(one.task, 16)
    for right, wrong in OPPOSITES:
        if right in known and wrong in known:
            first, last = (
                one.average(known[right])["average"][index]
                - one.average(known[wrong])["average"][index]
                for index in (0, -1)
            )
            return (
                f"{task}: {right} and {wrong} pairs are {number(last, 3)} apart, "
                f"{number(first, 3)} at first"
            )
    return f"Mean similarity of the pairs of {task}"


def draw_task(axes: Axes, one: TaskSteps) -> None:
    """A line for each kind of pairs."""
    labels, seen = [], []
    for kind, column in kinds(one).items():
        points = one.average(column)
        colour = COLOURS[kind]
        seen += draw_series(axes, points, column, tinted(colour, 0.45), colour)
        last = points["average"][-1]
        labels.append(Label(last, f"{kind} {number(last, 3)}", colour))
    value_axis(axes, "", min(seen), max(seen))
    axes.set_ylabel(printable(one.task, 16), weight="bold")
    label_right(axes, labels)


def draw_temperatures(axes: Axes, tasks: list[TaskSteps]) -> None:
    """The learnt temperatures, a line for each task."""
    labels, lows, highs = [], [], []
    for one, colour in zip(tasks, SERIES, strict=False):
        points = one.steps.select("step", "temperature").drop_nulls()
        shown = thinned(points)
        axes.plot(shown["step"], shown["temperature"], color=colour, linewidth=1.5)
        last = points["temperature"][-1]
        labels.append(Label(last, f"{number(last, 3)}  {printable(one.task, 12)}", colour))
        low, high = extent(points["temperature"])
        lows.append(low)
        highs.append(high)
    value_axis(axes, "temperature", min(lows), max(highs))
    label_right(axes, labels)
