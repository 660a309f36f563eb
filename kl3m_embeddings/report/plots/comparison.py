"""The plots of several runs: losses and metrics of held-out pairs, over steps and over tokens.

Losses of tasks that cannot be compared have a panel each.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import counted, number, printable
from kl3m_embeddings.report.plots.curves import (
    Along,
    Curve,
    by_step,
    by_tokens,
    draw_panel,
    evals_along,
    loss_along,
    metric_along,
    task_losses_along,
)
from kl3m_embeddings.report.plots.style import (
    LEFT_IN,
    TOP_WITHOUT_LEGEND_IN,
    footnote,
    new_figure,
    place,
    save,
    step_axis,
    styled,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent
from kl3m_embeddings.report.statistics.pair_metrics import find_sets

MAX_PANELS = 6
MIN_PANEL_IN, LABEL_IN, HEAD_AND_FOOT_IN = 1.5, 0.168, 1.45
ONE_PANEL_IN, TWO_PANELS_IN = 4.6, 6.4
# The curves of each panel by its name.
Panels = dict[str, list[Curve]]


def compare_plots(
    runs: Sequence[Run], names: Sequence[str], window: int, folder: Path
) -> tuple[list[Path], list[str]]:
    """Overlay the runs over steps and over tokens; returns the PNGs, and what is not drawn."""
    written, missing = [], []
    for kind, along, axis_name in (("step", by_step, "step"), ("tokens", by_tokens, "tokens seen")):
        losses = training_panels(runs, names, window, along)
        known = {curve.run_index for curve in chain(*losses.values())}
        missing += [
            f"loss_by_{kind}.png: {name} is not drawn: its log has no loss, or no {axis_name}"
            for index, name in enumerate(names)
            if index not in known
        ]
        figures: dict[str, Figure] = {}
        with styled():
            if losses:
                held_out = [
                    one for one in held_out_losses(runs, names, along) if one.run_index in known
                ]
                figures[f"loss_by_{kind}.png"] = overlay_losses(losses, held_out, axis_name, window)
            if metrics := metric_panels(runs, names, along):
                figures[f"pair_metrics_by_{kind}.png"] = overlay_metrics(metrics, axis_name)
            for file_name, figure in figures.items():
                save(figure, folder / file_name)
                written.append(folder / file_name)
    return written, missing


def training_panels(runs: Sequence[Run], names: Sequence[str], window: int, along: Along) -> Panels:
    """The training losses of all runs; one panel a task where one panel would mix them."""
    tasks = {task for run in runs for task in run.tasks}
    if len(tasks) < 2 or not any(run.embedding_tasks for run in runs):
        title = f"training loss, average of {window:,} steps"
        found = [{title: loss_along(run, window, along)} for run in runs]
    else:
        found = [task_losses_along(run, window, along) for run in runs]
    panels: Panels = {}
    for index, (name, of_run) in enumerate(zip(names, found, strict=True)):
        for panel, points in of_run.items():
            if len(points):
                panels.setdefault(panel, []).append(Curve(name, points, index))
    return panels


def held_out_losses(runs: Sequence[Run], names: Sequence[str], along: Along) -> list[Curve]:
    """The mean losses of the evaluations of those runs that have any."""
    curves = [
        Curve(name, evals_along(run.evals, "mean", along(run.steps)), index)
        for index, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    return [curve for curve in curves if len(curve.points)]


def metric_panels(runs: Sequence[Run], names: Sequence[str], along: Along) -> Panels:
    """The headlines of the sets of held-out pairs, a panel each."""
    panels: Panels = {}
    for index, (name, run) in enumerate(zip(names, runs, strict=True)):
        for one in find_sets(run.evals):
            points = metric_along(run, one.headline.points, along)
            if len(points):
                panel = f"{printable(one.name, 16)}\n{one.headline.metric}"
                panels.setdefault(panel, []).append(Curve(name, points, index))
    return panels


def overlay_losses(
    training: Panels, held_out: Sequence[Curve], axis_name: str, window: int
) -> Figure:
    """The training loss of every run and, below it, their held-out losses."""
    curves = list(chain(*training.values()))
    num_runs = len({curve.run_index for curve in curves})
    if held_out:
        best, name = min((extent(points["y"])[0], name) for name, points, _ in held_out)
        title = f"{printable(name, 24)} has the lowest held-out loss, {number(best, 3)}"
    elif len(training) == 1:
        lowest, name = min((points["y"][-1], name) for name, points, _ in curves)
        title = f"{printable(name, 24)} has the lowest training loss, {number(lowest, 3)}"
    else:
        title = f"Training losses of {len(training):,} tasks"
    subtitle = f"{num_runs} runs by {axis_name}"
    panels = dict(list(training.items())[:MAX_PANELS])
    if held_out:
        panels["held-out loss, mean"] = list(held_out)
    if len(training) > 1:
        more = (
            f", the first {MAX_PANELS} of {len(training):,}" if len(training) > MAX_PANELS else ""
        )
        subtitle += (
            f"; training losses by task{more}, averages of {counted(window, 'step')} of the run"
        )
        return stacked(title, subtitle, panels, axis_name)
    figure, axes = empty_panels(
        title, subtitle, len(panels), TWO_PANELS_IN if held_out else ONE_PANEL_IN
    )
    return fill_panels(figure, axes, panels, curves, axis_name)


def overlay_metrics(panels: Panels, axis_name: str) -> Figure:
    """Every set's metric that counts most, at the embedding's full size."""
    best_runs = [
        max((extent(points["y"])[1], name) for name, points, _ in curves)
        for curves in panels.values()
    ]
    (name, times), *_ = Counter(name for _, name in best_runs).most_common(1)
    title = f"{printable(name, 24)} is best on {times:,} of {len(panels):,} sets of held-out pairs"
    if len(panels) == 1:
        set_name, metric = next(iter(panels)).split("\n")
        best = number(best_runs[0][0], 3)
        title = f"{printable(name, 24)} is best on {set_name}: {metric} {best}"
    num_runs = len({curve.run_index for curve in chain(*panels.values())})
    subtitle = f"{num_runs} runs by {axis_name}"
    if len(panels) > MAX_PANELS:
        subtitle += f"; the first {MAX_PANELS} of {len(panels):,} sets"
    return stacked(title, subtitle, dict(list(panels.items())[:MAX_PANELS]), axis_name)


def stacked(title: str, subtitle: str, panels: Panels, axis_name: str) -> Figure:
    """Panels with room for their labels, one above the other."""
    most = max(len(curves) for curves in panels.values())
    height_in = HEAD_AND_FOOT_IN + len(panels) * max(MIN_PANEL_IN, LABEL_IN * most)
    figure, axes = empty_panels(title, subtitle, len(panels), height_in, left_in=0.85)
    fill_panels(figure, axes, panels, list(chain(*panels.values())), axis_name)
    figure.align_ylabels(axes)
    return figure


def empty_panels(
    title: str, subtitle: str, num_panels: int, height_in: float, *, left_in: float = LEFT_IN
) -> tuple[Figure, list[Axes]]:
    """A figure with its headline, and axes that have room for names at the right."""
    figure = new_figure(title, subtitle, height_in)
    axes = place(
        figure, num_panels, right_in=2.2, left_in=left_in, top_in=TOP_WITHOUT_LEGEND_IN, hspace=0.1
    )
    return figure, axes


def fill_panels(
    figure: Figure,
    axes: Sequence[Axes],
    panels: Panels,
    spanning: Sequence[Curve],
    axis_name: str,
) -> Figure:
    """The curves of each panel, over all that those of `spanning` span."""
    for panel, (name, curves) in zip(axes, panels.items(), strict=True):
        draw_panel(panel, curves, name)
    first = min(curve.points["x"][0] for curve in spanning)
    step_axis(axes[-1], first, max(curve.points["x"][-1] for curve in spanning), axis_name)
    footnote(figure, "Each label gives the last value of its line.")
    return figure
