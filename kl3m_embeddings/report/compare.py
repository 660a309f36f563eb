"""Several runs against each other: one table, and their losses over steps and over tokens."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.columns import extent
from kl3m_embeddings.report.names import count, duration, number, printable
from kl3m_embeddings.report.plot_parts import marker_for, thinned
from kl3m_embeddings.report.run import Run
from kl3m_embeddings.report.statistics import moving_average
from kl3m_embeddings.report.step_statistics import Statistics
from kl3m_embeddings.report.style import (
    SERIES,
    TOP_WITHOUT_LEGEND_IN,
    Label,
    footnote,
    label_right,
    new_figure,
    place,
    save,
    spans_scales,
    step_axis,
    styled,
    value_axis,
)
from kl3m_embeddings.report.tables import grid, note_lines

NAME_LENGTH = 18
# A run's name, its training losses, its held-out losses, and its place among the runs.
Curve = tuple[str, pl.DataFrame, pl.DataFrame, int]
LINES = ("solid", (0, (4, 1.5)), (0, (1, 1.2)))


def unique_names(logs: Sequence[Path]) -> list[str]:
    """The folder of each log; where two are equal, with as many parents as tell them apart.

    A log that is not called log.jsonl is named too.
    """
    parts = [log.resolve().parts for log in logs]
    parts = [part[:-1] if part[-1] == "log.jsonl" else part for part in parts]
    depths = [1 if log.name == "log.jsonl" else 2 for log in logs]
    names = ["/".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
    for longer in range(1, max(map(len, parts))):
        times = Counter(names)
        names = [
            name if times[name] == 1 else "/".join(part[-depth - longer :])
            for name, part, depth in zip(names, parts, depths, strict=True)
        ]
    return [printable(name) for name in names]


def render_comparison(
    all_statistics: Sequence[Statistics], notes: Sequence[str]
) -> Iterator[RenderableType]:
    """The table, and what there is to say of each run and of the plots."""
    yield compare_table(all_statistics)
    for statistics in all_statistics:
        yield from note_lines(f"{statistics['name']}: {note}" for note in statistics["notes"])
    yield from note_lines(notes)


def compare_table(all_statistics: Sequence[Statistics]) -> Table:
    """One row a run, the best evaluation in bold."""
    table = grid(
        "Runs compared", "run", "steps", "tokens", "held-out\nbest", "\nat step",
        "training\naverage", "tokens\n/s", "time", "skips",
    )  # fmt: skip
    best_means = [best_mean(statistics) for statistics in all_statistics]
    lowest = min((mean for mean in best_means if mean is not None), default=None)
    for statistics, mean in zip(all_statistics, best_means, strict=True):
        best = (statistics["eval"] or {}).get("best") or {}
        table.add_row(
            Text(statistics["name"]),
            number(statistics["progress"]["num_steps"]),
            count(statistics["progress"]["num_tokens"]),
            Text(number(mean), style="bold" if mean == lowest else ""),
            number(best.get("step")),
            number(statistics["loss"]["last_average"]),
            count(statistics["speed"]["tokens_per_s"]),
            duration(statistics["progress"]["elapsed_s"]),
            number(statistics["skipped"]["num_skipped"]),
        )
    return table


def best_mean(statistics: Statistics) -> float | None:
    """The mean loss of the best evaluation."""
    best = (statistics["eval"] or {}).get("best")
    return best["mean"] if best else None


def compare_plots(
    runs: Sequence[Run], names: Sequence[str], window: int, folder: Path
) -> tuple[list[Path], list[str]]:
    """Overlay the runs over steps and over tokens; returns the PNGs, and what is not drawn."""
    written, missing = [], []
    for file_name, along, axis_name in (
        ("loss_by_step.png", by_step, "step"),
        ("loss_by_tokens.png", by_tokens, "tokens seen"),
    ):
        curves = [
            (name, *loss_along(run, window, along), index)
            for index, (run, name) in enumerate(zip(runs, names, strict=True))
        ]
        drawn = [curve for curve in curves if len(curve[1])]
        missing += [
            f"{file_name}: {name} is not drawn: its log has no loss, or no {axis_name}"
            for name, losses, *_ in curves
            if losses.is_empty()
        ]
        if drawn:
            with styled():
                save(overlay(drawn, window, axis_name), folder / file_name)
            written.append(folder / file_name)
    return written, missing


def by_step(steps: pl.DataFrame) -> pl.DataFrame:
    """Where each step lies on an axis of steps."""
    return steps.select("step", x=pl.col("step").cast(pl.Float64))


def by_tokens(steps: pl.DataFrame) -> pl.DataFrame:
    """Where each step lies on an axis of tokens."""
    return steps.select("step", x=pl.col("num_tokens").cum_sum()).drop_nulls()


def loss_along(
    run: Run, window: int, along: Callable[[pl.DataFrame], pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Average training losses and held-out means, each with the columns x and y."""
    places = along(run.steps)
    losses = moving_average(run.steps, window).join(places, on="step", maintain_order="left")
    evals = run.evals.drop_nulls("mean") if run.has_eval("mean") else pl.DataFrame()
    if len(evals) and len(places):
        evals = evals.join_asof(places, on="step").drop_nulls("x").select("x", y="mean")
    return thinned(losses).select("x", y="average"), evals


def overlay(curves: Sequence[Curve], window: int, axis_name: str) -> Figure:
    """The training loss of every run and, below it, their held-out losses."""
    with_evals = [(name, evals, index) for name, _, evals, index in curves if len(evals)]
    lowest, name = min((losses["y"][-1], name) for name, losses, *_ in curves)
    title = f"{printable(name, 24)} has the lowest training loss, {number(lowest, 3)}"
    if with_evals:
        best, name = min((extent(evals["y"])[0], name) for name, evals, _ in with_evals)
        title = f"{printable(name, 24)} has the lowest held-out loss, {number(best, 3)}"
    figure = new_figure(
        title, f"{len(curves)} runs by {axis_name}", height_in=6.4 if with_evals else 4.6
    )
    axes = place(
        figure, 2 if with_evals else 1, right_in=2.2, top_in=TOP_WITHOUT_LEGEND_IN, hspace=0.1
    )
    panel = [(name, losses, index) for name, losses, _, index in curves]
    draw_panel(axes[0], panel, f"training loss, average of {window:,} steps")
    if with_evals:
        draw_panel(axes[1], with_evals, "held-out loss, mean")
    first = min(losses["x"][0] for _, losses, _ in panel)
    step_axis(axes[-1], first, max(losses["x"][-1] for _, losses, _ in panel), axis_name)
    footnote(figure, "Each label gives the last value of its line.")
    return figure


def draw_panel(axes: Axes, curves: Sequence[tuple[str, pl.DataFrame, int]], name: str) -> None:
    """One line a run, labelled with the run's name and its last value."""
    labels = []
    for run_name, points, index in curves:
        colour = SERIES[index % len(SERIES)]
        axes.plot(
            points["x"], points["y"], color=colour, linewidth=1.5, marker=marker_for(points),
            markersize=3, linestyle=LINES[index // len(SERIES) % len(LINES)],
        )  # fmt: skip
        last = points["y"][-1]
        labels.append(Label(last, f"{number(last, 3)}  {printable(run_name, NAME_LENGTH)}", colour))
    values = pl.concat([points["y"] for _, points, _ in curves])
    value_axis(axes, name, *extent(values), log=spans_scales(values))
    label_right(axes, labels)
