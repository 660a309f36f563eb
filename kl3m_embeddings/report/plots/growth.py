"""How the speed and memory of a training step grow with batch, length, layers and vocabulary."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from kl3m_embeddings.report.names import count
from kl3m_embeddings.report.plots.style import BLUE, ORANGE, new_figure

AXES = {
    "batch": "rows of a batch",
    "length": "tokens of a row (as many in the batch)",
    "layers": "layers",
    "vocabulary": "rows of the vocabulary",
}
HEIGHT_IN = 6.4


def growth_figure(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> Figure:
    """A panel for each axis: tokens a second at the left, peak memory at the right.

    Args:
        rows: with axis, size, tokens_per_s and peak_memory_gb.
        machine: hardware and versions, as the benchmark recorded them.
    """
    hardware, versions = machine["hardware"], machine["versions"]
    figure = new_figure(
        "Speed and memory of a training step as it grows",
        f"{hardware['device_name']}, {hardware['num_threads']} threads, torch {versions['torch']}; "
        "one size changes in each panel",
        HEIGHT_IN,
    )
    shown = [axis for axis in AXES if any(row["axis"] == axis for row in rows)]
    grid = figure.add_gridspec(
        2, 2, left=0.1, right=0.925, top=0.86, bottom=0.09, hspace=0.42, wspace=0.42
    )
    fastest = max(row["tokens_per_s"] for row in rows)
    most_gb = max(row["peak_memory_gb"] for row in rows)
    for index, axis in enumerate(shown):
        axes = figure.add_subplot(grid[index // 2, index % 2])
        draw(axes, axis, [row for row in rows if row["axis"] == axis], fastest, most_gb)
    return figure


def draw(
    axes: Axes, axis: str, rows: Sequence[Mapping[str, Any]], fastest: float, most_gb: float
) -> None:
    """The panel of one axis: speed at its left scale, memory at its right one."""
    sizes = [row["size"] for row in rows]
    memory = axes.twinx()
    for one, key, colour, name, top in (
        (axes, "tokens_per_s", BLUE, "tokens/s", fastest),
        (memory, "peak_memory_gb", ORANGE, "peak memory, GB", most_gb),
    ):
        one.plot(sizes, [row[key] for row in rows], color=colour, marker="o", markersize=4)
        one.set_ylim(0, 1.12 * top)
        one.set_ylabel(name, color=colour)
        one.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(AXES[axis])
    memory.grid(False)
