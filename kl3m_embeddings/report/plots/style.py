"""How every plot looks: palette, type, layout, labels beside the axes, and saving.

The palette is Okabe and Ito's, which colour-blind readers can tell apart
(https://jfly.uni-koeln.de/color/). Values are labelled where they are, at the right of the axes;
labels that would overlap are moved apart.
"""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from kl3m_embeddings.files.whole import whole_file
from kl3m_embeddings.report.names import count, number
from kl3m_embeddings.report.statistics.columns import percentile

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE, YELLOW = "#E69F00", "#56B4E9", "#CC79A7", "#F0E442"
BLACK, DARK, GREY, LIGHT = "#1A1A1A", "#4D4D4D", "#9A9A9A", "#E3E3E3"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, BLACK)

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": BLACK,
    "text.parse_math": False,  # names from files are text, whatever they hold
    "axes.labelcolor": DARK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LIGHT,
    "grid.linewidth": 0.7,
    "xtick.color": DARK,
    "ytick.color": DARK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "white",
}
WIDTH_IN = 8.0
HEIGHT_IN = 4.6
TOP_IN, TOP_WITHOUT_LEGEND_IN, BOTTOM_IN = 1.0, 0.75, 0.62
LEFT_IN = 0.62
DPI = 200
LABEL_POINTS = 8.5


class Label(NamedTuple):
    """A text for the right edge of the axes, at the height of the value it names."""

    y: float
    text: str
    colour: str


def new_figure(title: str, subtitle: str, height_in: float = HEIGHT_IN) -> Figure:
    """An empty figure with its headline."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    inch = 1 / height_in
    figure.text(0.02, 1 - 0.16 * inch, title, size=12, weight="bold", va="top")
    figure.text(0.02, 1 - 0.43 * inch, subtitle, size=LABEL_POINTS, color=DARK, va="top")
    return figure


def place(
    figure: Figure,
    rows: int = 1,
    *,
    top_in: float = TOP_IN,
    right_in: float = 1.5,
    left_in: float = LEFT_IN,
    hspace: float = 0.12,
    height_ratios: Sequence[float] | None = None,
    sharex: bool = True,
) -> list[Axes]:
    """Axes one above the other that share x; room for the legend above, for labels at the right."""
    height_in = figure.get_figheight()
    grid = figure.add_gridspec(
        rows,
        left=left_in / WIDTH_IN,
        right=1 - right_in / WIDTH_IN,
        top=1 - top_in / height_in,
        bottom=BOTTOM_IN / height_in,
        hspace=hspace,
        height_ratios=height_ratios,
    )
    if not sharex:
        return [figure.add_subplot(grid[row]) for row in range(rows)]
    first = figure.add_subplot(grid[0])
    axes = [first, *(figure.add_subplot(grid[row], sharex=first) for row in range(1, rows))]
    for upper in axes[:-1]:
        upper.tick_params(which="both", labelbottom=False, bottom=False)
    return axes


def footnote(figure: Figure, text: str) -> None:
    """What a reader needs to know to trust the plot."""
    figure.text(0.02, 0.09 / figure.get_figheight(), text, size=7.5, color=GREY, va="bottom")


def legend(axes: Axes, *others: Axes) -> None:
    """The legend between headline and axes, where it hides no data: one line, or two if need be.

    Names that only `others` have are in it, too.
    """
    entries: dict[str, Any] = {}
    for one in (axes, *others):
        handles, names = one.get_legend_handles_labels()
        entries |= {
            name: handle for name, handle in zip(names, handles, strict=True) if name not in entries
        }
    num_entries = len(entries)
    if not num_entries:
        return
    for num_columns in (num_entries, -(-num_entries // 2)):
        drawn = axes.legend(
            entries.values(),
            entries,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=num_columns,
            borderaxespad=0.3,
            borderpad=0,
            handlelength=1.5,
            handletextpad=0.5,
            columnspacing=1.3,
            labelspacing=0.35,
        )
        if drawn.get_window_extent().x1 < 0.98 * axes.figure.bbox.x1:
            return


def step_axis(axes: Axes, first: float | int, last: float | int, name: str = "step") -> None:
    """The x axis over steps (or tokens): from the first to the last, in readable numbers."""
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)
        axes.xaxis.set_major_locator(FixedLocator([first]))
    else:
        start = 0 if first < 0.02 * last else first
        axes.set_xlim(start, last + 0.01 * (last - start))
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 2.5, 5, 10]))
    # Short numbers (20k), unless they would be the same at every tick.
    is_narrow = last - first < 0.05 * last
    short = FuncFormatter(lambda value, _: count(value))
    axes.xaxis.set_major_formatter("{x:,.0f}" if is_narrow else short)
    axes.set_xlabel(name)


def value_axis(
    axes: Axes, name: str, low: float | int, high: float | int, *, log: bool = False
) -> None:
    """The y axis from `low` to `high`; logarithmic if `log`, and if that is possible."""
    axes.set_ylabel(name)
    if log and low > 0:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        log_ticks(axes.yaxis)
    else:
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(max(0.0, low - margin) if low >= 0 else low - margin, high + margin)
        if high < 0.01:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 3)))


def log_ticks(axis: Axis) -> None:
    """Plain numbers at the powers of ten, and none between them."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
    axis.set_minor_formatter(NullFormatter())


def tinted(colour: str, share: float) -> str:
    """`colour` with so much white in it."""
    parts = (1 - (1 - part) * (1 - share) for part in mpl.colors.to_rgb(colour))
    return mpl.colors.to_hex(tuple(parts))  # type: ignore[arg-type]


def spans_scales(values: pl.Series) -> bool:
    """Whether a logarithmic axis suits: most values are positive, and ten times apart."""
    low, high = percentile(values, 10), percentile(values, 90)
    return low is not None and high is not None and low > 0 and high >= 10 * low


def label_right(axes: Axes, labels: Sequence[Label]) -> None:
    """Write `labels` beside the right edge, each at its value as far as they do not overlap.

    Call this when the limits of the y axis are set.
    """
    figure = axes.figure
    height_pt = axes.get_position().height * figure.get_figheight() * 72  # type: ignore[union-attr]
    ordered = sorted(labels, key=lambda label: label.y)
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [min(1.0, max(0.0, to_axes.transform((0, label.y))[1])) for label in ordered]
    heights = spread(wanted, 1.35 * LABEL_POINTS / height_pt)
    for label, at, y in zip(ordered, wanted, heights, strict=True):
        axes.plot(
            [1.0, 1.012, 1.028, 1.04],
            [at, at, y, y],
            color=label.colour,
            linewidth=1.6,
            transform=axes.transAxes,
            clip_on=False,
            zorder=5,
        )
        axes.text(1.05, y, label.text, transform=axes.transAxes, va="center", size=LABEL_POINTS)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """The heights nearest to `wanted` (ascending, from 0 to 1) that are at least `gap` apart.

    Least squares under the order, by pooling neighbours that violate it (isotonic regression,
    https://en.wikipedia.org/wiki/Isotonic_regression). Gaps shrink if there is no room for them.
    """
    if len(wanted) < 2:
        return list(wanted)
    gap = min(gap, 1 / (len(wanted) - 1))
    pools: list[tuple[float, int]] = []
    for index, height in enumerate(wanted):
        mean, size = height - index * gap, 1
        while pools and pools[-1][0] >= mean:
            other, other_size = pools.pop()
            mean = (mean * size + other * other_size) / (size + other_size)
            size += other_size
        pools.append((mean, size))
    room = 1 - (len(wanted) - 1) * gap
    shifted = [min(room, max(0.0, mean)) for mean, size in pools for _ in range(size)]
    return [height + index * gap for index, height in enumerate(shifted)]


def save(figure: Figure, path: Path) -> None:
    """Write the PNG, its headline among its metadata; a viewer never sees half of it."""
    headline = {"Title": figure.texts[0].get_text()} if figure.texts else {}
    with whole_file(path) as temporary, warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the tables show it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, dpi=DPI, format="png", metadata=headline)


def styled() -> AbstractContextManager[None]:
    """The style as a context: matplotlib's own settings stay as they were."""
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]
