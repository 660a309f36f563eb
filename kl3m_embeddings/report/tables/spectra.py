"""Spectra in numbers: of each layer's weights, and of embeddings."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import NO_VALUE, number, printable
from kl3m_embeddings.report.statistics.spectra import SpectrumStatistics
from kl3m_embeddings.report.tables.parts import MAX_NAMES, escaped, grid, with_rest


def spectra_tables(
    rows: Sequence[SpectrumStatistics], max_rows: int = MAX_NAMES
) -> Iterator[Table]:
    """How many directions the embeddings use, and the weights of each layer."""
    embeddings = [row for row in rows if row.layer is None]
    layers = [row for row in rows if row.layer is not None]
    if embeddings:
        table = grid(
            "Embeddings", "model", "step", "dimensions", "effective\nrank", "\nanisotropy",
            "\nuniformity", "\nalignment",
        )  # fmt: skip
        for row in embeddings[:max_rows]:
            table.add_row(
                Text(printable(row.model)),
                number(row.step),
                whole(row.dim),
                *three_digits(row.effective_rank, row.anisotropy, row.uniformity, row.alignment),
            )
        yield with_rest(table, embeddings, max_rows)
    models = dict.fromkeys(row.model for row in layers)
    for model in models:
        title = f"Weights of {escaped(printable(model))} by layer"
        of_model = [row for row in layers if row.model == model]
        yield layers_table(title if len(models) > 1 else "Weights by layer", of_model, max_rows)


def layers_table(title: str, layers: Sequence[SpectrumStatistics], max_rows: int) -> Table:
    """A row a matrix."""
    table = grid(
        title, "weights", "layer", "shape", "effective\nrank", "stable\nrank",
        "largest /\nmean", "largest /\nmedian",
    )  # fmt: skip
    for row in layers[:max_rows]:
        shape = row.shape
        table.add_row(
            Text(printable(row.kind)),
            number(row.layer),
            f"{shape[0]:,} by {shape[1]:,}" if shape else NO_VALUE,
            *three_digits(
                row.effective_rank,
                row.stable_rank,
                row.largest_over_mean,
                row.largest_over_median,
            ),
        )
    return with_rest(table, layers, max_rows)


def whole(value: float | None) -> str:
    """A count that was read as a number."""
    return NO_VALUE if value is None else f"{value:,.0f}"


def three_digits(*values: float | None) -> list[str]:
    """Numbers that are known to about three digits."""
    return [number(value, 3) for value in values]
