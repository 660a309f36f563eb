"""The singular values of each layer's weights and of embeddings: how many directions are in use?

Each spectrum is drawn over its largest value. One that falls steeply uses few directions.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kl3m_embeddings.report.names import number, printable
from kl3m_embeddings.report.plots.parts import subtitle
from kl3m_embeddings.report.plots.style import (
    BLUE,
    SERIES,
    TOP_WITHOUT_LEGEND_IN,
    VERMILLION,
    Label,
    footnote,
    label_right,
    log_ticks,
    new_figure,
    place,
    tinted,
)
from kl3m_embeddings.report.read.benchmark import newest
from kl3m_embeddings.report.read.benchmark_rows import Spectrum
from kl3m_embeddings.report.read.run import Run

MAX_PANELS = 8  # DeBERTa's six, and the embeddings
PANEL_IN, HEAD_AND_FOOT_IN = 1.5, 1.45
MAX_LABELS = 4
NAME_LENGTH = 18
LOWEST = 1e-6  # of the largest value: below it is rounding
PALEST = 0.75


def spectra(run: Run, window: int) -> Figure | str | None:
    """A panel for each kind of weights, its lines the layers, and one for embeddings."""
    measured = newest(run.benchmark.spectra)
    if not measured:
        return None
    rows = own_first(run, [row for row in measured if values_of(row)])
    if not rows:
        return "spectra.jsonl has no singular values"
    panels = panels_of(rows)
    shown = dict(list(panels.items())[:MAX_PANELS])
    figure = new_figure(
        title(rows), subtitle(run), HEAD_AND_FOOT_IN + PANEL_IN * max(2, len(shown))
    )
    axes = place(
        figure, len(shown), right_in=2.1, left_in=0.85, hspace=0.14, top_in=TOP_WITHOUT_LEGEND_IN
    )
    for panel, (name, of_panel) in zip(axes, shown.items(), strict=True):
        draw_panel(panel, name, of_panel)
    axes[-1].set_xlim(0, 100)
    axes[-1].set_xlabel("singular values, from the largest (0%) to the smallest (100%)")
    figure.align_ylabels(axes)
    more = (
        f"The first {MAX_PANELS} of {len(panels):,} kinds of weights. "
        if len(panels) > MAX_PANELS
        else ""
    )
    footnote(figure, f"{more}Singular values over the largest one; labels give effective ranks.")
    return figure


def own_first(run: Run, measured: Sequence[Spectrum]) -> list[Spectrum]:
    """All of the run's own model, or else of the first one; of the others the embeddings."""
    first = (run.benchmark.own(measured) or measured)[:1]
    own = [row for row in measured if row.model == first[0].model]
    return own + [row for row in measured if row not in own and row.layer is None]


def values_of(row: Spectrum) -> list[float]:
    """Singular values over the largest one."""
    largest = max(row.singular_values, default=0.0)
    return [value / largest for value in row.singular_values] if largest > 0 else []


def panels_of(rows: Sequence[Spectrum]) -> dict[str, list[Spectrum]]:
    """Embeddings first; then the kinds of weights, their layers in order."""
    panels: dict[str, list[Spectrum]] = {}
    embeddings = [row for row in rows if row.layer is None]
    if embeddings:
        panels["embeddings"] = embeddings
    for row in sorted(rows, key=lambda row: -1 if row.layer is None else row.layer):
        if row.layer is not None:
            panels.setdefault(row.kind, []).append(row)
    return panels


def title(rows: Sequence[Spectrum]) -> str:
    """How many directions there are in use."""
    for row in rows:
        rank, dim = row.numbers.get("effective_rank"), row.numbers.get("dim")
        if row.layer is None and rank is not None and dim is not None:
            return f"Embeddings use {number(rank, 3)} of {dim:,.0f} directions (effective rank)"
    ranks = [row.numbers["effective_rank"] for row in rows if "effective_rank" in row.numbers]
    if not ranks:
        return "Singular values by layer"
    return f"Effective ranks of the weights: {number(min(ranks), 3)} to {number(max(ranks), 3)}"


def draw_panel(axes: Axes, name: str, rows: Sequence[Spectrum]) -> None:
    """A line a layer, paler the nearer to the input; embeddings have a line a model."""
    labels, lowest = [], 1.0
    labelled = {round(index * (len(rows) - 1) / (MAX_LABELS - 1)) for index in range(MAX_LABELS)}
    for position, row in enumerate(rows):
        values = [max(value, LOWEST) for value in values_of(row)]
        share = 1 - position / max(1, len(rows) - 1)
        is_layer = row.layer is not None
        colour = tinted(BLUE, PALEST * share) if is_layer else SERIES[position % len(SERIES)]
        if is_layer and position == len(rows) - 1 and len(rows) > 1:
            colour = VERMILLION
        every = 100 / max(1, len(values) - 1)
        axes.plot(
            [index * every for index in range(len(values))], values, color=colour, linewidth=1.4
        )
        lowest = min(lowest, *values)
        if position in labelled:
            rank = row.numbers.get("effective_rank")
            shown = f"layer {row.layer:,}" if is_layer else printable(row.model.rsplit("/")[-1], 16)
            labels.append(Label(values[-1], f"{shown}  {number(rank, 3)}", colour))
    axes.set_yscale("log")
    axes.set_ylim(lowest / 1.3, 1.15)
    log_ticks(axes.yaxis)
    tail = name if len(name) <= NAME_LENGTH else f"…{name[1 - NAME_LENGTH :]}"
    axes.set_ylabel(printable(tail), weight="bold")
    label_right(axes, labels)
