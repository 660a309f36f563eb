"""What the plots of one run share: headline, axis over the steps, marks where it was resumed."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes

from kl3m_embeddings.report.names import count, counted, number, percent
from kl3m_embeddings.report.plots.style import GREY, step_axis
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import extent, total

MAX_POINTS = 1000
MAX_MARKERS = 80


def subtitle(run: Run) -> str:
    """The run's name, length and progress."""
    tokens = total(run.steps["num_tokens"])
    parts = [counted(run.steps.height, "step"), f"{count(tokens)} tokens" if tokens else ""]
    if run.total_steps:
        share = percent(run.num_done / run.total_steps)
        parts.append(f"{share} of {run.total_steps:,} steps")
    return f"{run.name}:  " + ",  ".join(part for part in parts if part)


def moved(first: float | int, last: float | int) -> str:
    """`fell from 11.1 to 3.16`, or rose, or stayed."""
    verb = "fell" if last < first else "rose"
    if number(first, 3) == number(last, 3):
        return f"is {number(last, 3)}"
    return f"{verb} from {number(first, 3)} to {number(last, 3)}"


def listed(what: str, parts: Sequence[str], limit: int = 68) -> str:
    """`what: part, part and 2 more`: as many parts as a headline has room for, one at least."""
    for num_shown in range(len(parts), 0, -1):
        rest = len(parts) - num_shown
        text = f"{what}: {', '.join(parts[:num_shown])}" + (f" and {rest:,} more" if rest else "")
        if len(text) <= limit:
            break
    return text


def step_axis_of(axes: Axes, run: Run) -> None:
    """The x axis over all steps and evaluations (the first one may precede the first step)."""
    ends = [extent(table["step"]) for table in (run.steps, run.evals) if len(table)]
    step_axis(axes, min(first for first, _ in ends), max(last for _, last in ends))


def mark_resumes(axes: Axes, run: Run, *, label: bool = False) -> None:
    """Faint lines where the run was resumed."""
    for index, step in enumerate(run.resumes):
        name = f"resumed ({len(run.resumes):,})" if label and index == 0 else None
        axes.axvline(step, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1, label=name)


def thinned(table: pl.DataFrame) -> pl.DataFrame:
    """At most about MAX_POINTS rows of `table`, its last among them."""
    every = max(1, table.height // MAX_POINTS)
    return table.reverse().gather_every(every).reverse()


def marker_for(points: pl.DataFrame) -> str:
    """A dot for every point, as long as the dots do not touch."""
    return "o" if len(points) <= MAX_MARKERS else ""
