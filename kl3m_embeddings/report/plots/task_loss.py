"""Losses task by task, each on an axis of its own: where one curve would join what is not alike."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import counted, number, printable
from kl3m_embeddings.report.plots.loss_parts import (
    draw_evals,
    draw_rates,
    draw_series,
    eval_labels,
    limit_loss,
    mark_skipped,
    rate_title,
)
from kl3m_embeddings.report.plots.parts import listed, mark_resumes, step_axis_of, subtitle
from kl3m_embeddings.report.plots.style import (
    BLUE,
    SKY,
    Label,
    footnote,
    label_right,
    legend,
    new_figure,
    place,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.losses import TaskSteps, steps_by_task

MAX_PANELS = 6
PANEL_IN, RATES_IN, HEAD_AND_FOOT_IN = 1.3, 1.4, 1.75


def tasks_with_losses(run: Run, window: int) -> list[TaskSteps]:
    """The tasks that can be drawn."""
    return [one for one in steps_by_task(run, window) if one.steps["loss"].count()]


def task_losses_by_step(run: Run, window: int) -> Figure | str:
    """Training losses and, beside that of the task it is measured by, the held-out loss."""
    tasks = tasks_with_losses(run, window)
    if not tasks:
        return "the log has no loss"
    height_in = HEAD_AND_FOOT_IN + PANEL_IN * min(len(tasks), MAX_PANELS)
    figure = new_figure(listed("Training loss now", lasts(tasks)), subtitle(run), height_in)
    axes = place(figure, min(len(tasks), MAX_PANELS), right_in=1.75, left_in=0.85, hspace=0.16)
    notes = draw_tasks(axes, run, tasks, evals=True)
    legend(*axes)
    footnote(figure, notes + rest_of(tasks, window))
    return figure


def learning_rate_task_losses(run: Run, rates: pl.DataFrame, window: int) -> Figure:
    """The learning rate above the loss of each task."""
    tasks = tasks_with_losses(run, window)
    num_panels = min(len(tasks), MAX_PANELS)
    height_in = HEAD_AND_FOOT_IN + RATES_IN + PANEL_IN * num_panels
    figure = new_figure(rate_title(rates), subtitle(run), height_in)
    axes = place(
        figure, 1 + num_panels, right_in=1.75, left_in=0.95, hspace=0.16,
        height_ratios=(RATES_IN, *[PANEL_IN] * num_panels),
    )  # fmt: skip
    draw_rates(axes[0], rates)
    mark_resumes(axes[0], run)
    notes = draw_tasks(axes[1:], run, tasks, evals=False)
    legend(*axes)
    footnote(figure, notes + rest_of(tasks, window))
    return figure


def lasts(tasks: Sequence[TaskSteps]) -> list[str]:
    """Each task with its average loss now."""
    return [f"{printable(one.task, 16)} {number(one.average()['average'][-1], 3)}" for one in tasks]


def rest_of(tasks: Sequence[TaskSteps], window: int) -> str:
    """What the averages span, and how many tasks are not drawn."""
    more = (
        f" The {MAX_PANELS} most frequent of {len(tasks):,} tasks."
        if len(tasks) > MAX_PANELS
        else ""
    )
    span = counted(window, "step")
    return f"An average spans {span} of the run, those of other tasks included.{more}"


def draw_tasks(axes: Sequence[Axes], run: Run, tasks: Sequence[TaskSteps], *, evals: bool) -> str:
    """One panel a task; returns what is outside of the axes."""
    held_out = evaluated_task(run) if evals else None
    skipped = run.steps.filter("skipped")
    outside = ""
    for panel, one in zip(axes, tasks, strict=False):
        losses = one.average()
        seen = draw_series(
            panel, losses, "loss", SKY, BLUE, names=("training loss", "moving average")
        )
        labels = [
            Label(losses["average"][-1], f"training {number(losses['average'][-1], 3)}", BLUE)
        ]
        if one.task == held_out:
            rows = run.evals.drop_nulls("mean")
            seen += draw_evals(panel, rows)
            labels += eval_labels(rows)
        cut = limit_loss(panel, seen, losses["average"])
        outside += f"{printable(one.task, 16)}: {cut.lower()} " if cut else ""
        panel.set_ylabel(printable(one.task, 16), weight="bold")
        mark_resumes(panel, run, label=True)
        is_task = pl.col("task") == one.task
        mark_skipped(panel, skipped.filter(is_task), f"skipped ({len(skipped):,})")
        label_right(panel, labels)
    step_axis_of(axes[-1], run)
    axes[-1].figure.align_ylabels(axes)
    return outside


def evaluated_task(run: Run) -> str | None:
    """The task whose loss the held-out mean can be compared with: plain masking, if it is there."""
    if not run.has_eval("mean"):
        return None
    masked = [task for task in run.tasks if task not in run.embedding_tasks]
    return "mlm" if "mlm" in masked else next(iter(masked), None)
