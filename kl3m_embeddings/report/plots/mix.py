"""What the run is fed: samples by dataset and tokens by task, in total and over the steps."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import count, percent, printable
from kl3m_embeddings.report.plots.binning import binned, to_edges
from kl3m_embeddings.report.plots.parts import subtitle
from kl3m_embeddings.report.plots.style import (
    BOTTOM_IN,
    GREY,
    SERIES,
    TOP_WITHOUT_LEGEND_IN,
    WIDTH_IN,
    footnote,
    new_figure,
    step_axis,
)
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent, total

MAX_NAMES = 8
NUM_BINS = 40
NAME_LENGTH = 22
OTHER = None  # the one name that no dataset and no task can have


def samples_by_dataset(run: Run, window: int) -> Figure | str:
    """How many samples came from each dataset, and how the mix changed."""
    counts = run.log.samples_by_dataset
    if counts.is_empty():
        return "the log has no samples_by_dataset"
    rows = counts.join(run.steps.select("line", "step"), on="line")
    return draw_mix(run, rows, what="samples", of="dataset")


def tokens_by_task(run: Run, window: int) -> Figure | str:
    """How many tokens each task was trained on, and how the mix changed."""
    rows = run.steps.select("step", name="task", count="num_tokens").drop_nulls()
    if rows.is_empty():
        return "the log has no task, or no num_tokens"
    return draw_mix(run, rows, what="tokens", of="task")


def draw_mix(run: Run, rows: pl.DataFrame, *, what: str, of: str) -> Figure:
    """Totals as bars on the left, shares over the steps on the right, in the same colours."""
    counts = binned(rows, pl.col("count").sum(), by=("name",), num_bins=NUM_BINS)
    counts = counts.with_columns(pl.col("name").cast(pl.String))
    num_names = counts["name"].n_unique()
    totals = largest_names(counts)
    names = totals["name"].to_list()
    height_in = max(3.0, 1.7 + 0.3 * len(names))
    left_in = 0.35 + 0.073 * max(len(shown(name)) for name in names)
    figure = new_figure(title(totals, num_names, what, of), subtitle(run), height_in)
    grid = figure.add_gridspec(
        1, 2, left=left_in / WIDTH_IN, right=0.97, top=1 - TOP_WITHOUT_LEGEND_IN / height_in,
        bottom=BOTTOM_IN / height_in, wspace=0.2, width_ratios=[1, 1.15],
    )  # fmt: skip
    colours = [GREY if name is OTHER else SERIES[index] for index, name in enumerate(names)]
    draw_totals(figure.add_subplot(grid[0]), totals, colours, what)
    draw_shares(figure.add_subplot(grid[1]), run, counts, names, colours)
    if OTHER in names:
        footnote(figure, f"Other: all but the {MAX_NAMES} largest of {num_names:,} {of}s.")
    return figure


def title(totals: pl.DataFrame, num_names: int, what: str, of: str) -> str:
    """How much there was, and from where most of it came."""
    whole = total(totals["count"])
    name = shown(totals["name"][0])
    if num_names == 1:
        return f"All {count(whole)} {what} are from one {of}, {name}"
    share = percent(totals["count"][0] / whole if whole else None)
    return f"{count(whole)} {what} from {num_names:,} {of}s; {share} are {name}"


def largest_names(counts: pl.DataFrame) -> pl.DataFrame:
    """Names and totals, largest first; from the ninth on they are one, OTHER."""
    totals = (
        counts.group_by("name")
        .agg(pl.col("count").sum())
        .sort("count", "name", descending=[True, False])
    )
    if totals.height <= MAX_NAMES:
        return totals
    rest = totals[MAX_NAMES:]["count"].sum()
    other = pl.DataFrame({"name": [OTHER], "count": [rest]}, schema=totals.schema)
    return pl.concat([totals[:MAX_NAMES], other])


def shown(name: str | None) -> str:
    """A name as it stands beside its bar."""
    return "other" if name is OTHER else printable(name, NAME_LENGTH)


def draw_totals(axes: Axes, totals: pl.DataFrame, colours: list[str], what: str) -> None:
    """One bar a name, with its count and share beside it."""
    values = totals["count"].to_list()
    whole = sum(values) or 1
    axes.barh(range(len(values)), values, color=colours, height=0.7)
    for index, value in enumerate(values):
        axes.annotate(
            f"{count(value)}  {percent(value / whole)}", (value, index), xytext=(4, 0),
            textcoords="offset points", va="center", size=8.5,
        )  # fmt: skip
    axes.set_yticks(range(len(values)), [shown(name) for name in totals["name"]])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_xlim(0, 1.45 * max(values) or 1)
    axes.set_xlabel(f"{what} in total")


def draw_shares(
    axes: Axes, run: Run, counts: pl.DataFrame, names: list[str | None], colours: list[str]
) -> None:
    """The share of each name over the steps, in percent."""
    name, value = pl.col("name"), pl.col("count")
    indices = {name: str(index) for index, name in enumerate(names)}
    shares = counts.select(
        "step",
        name=name.replace_strict(indices, default=str(len(names) - 1)),
        count=100 * value / value.sum().over("step"),
    ).pivot("name", index="step", values="count", aggregate_function="sum", maintain_order=True)
    shares = to_edges(shares.fill_nan(0), run.steps)
    # From the last name to the first: the largest lies on top, as among the bars.
    columns = [shares[str(index)].fill_null(0) for index in reversed(range(len(names)))]
    axes.stackplot(
        shares["step"], *columns, colors=colours[::-1], alpha=0.9, linewidth=0.3, edgecolor="white",
        step="mid",
    )  # fmt: skip
    axes.set_ylim(0, 100)
    axes.set_ylabel("share (%)")
    axes.grid(visible=False)
    step_axis(axes, *extent(run.steps["step"]))
