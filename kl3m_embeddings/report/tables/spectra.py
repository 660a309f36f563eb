"""Spectra in numbers: of each layer's weights, and of embeddings."""

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import NO_VALUE, number, printable
from kl3m_embeddings.report.statistics.spectra import SpectrumStatistics
from kl3m_embeddings.report.tables.parts import (
    FOLDED_LENGTH,
    MAX_NAMES,
    escaped,
    fold_names,
    grid,
    with_rest,
)


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
                *shape_of(row),
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


def means_table(rows: Sequence[SpectrumStatistics]) -> Table:
    """A row a model and step: means over its matrices, and the shape of its vectors."""
    table = grid(
        "Weights: means over the layers' matrices. Vectors: of the sample", "model", "step",
        "weights'\neff. rank", "stable\nrank", "largest\n/ mean", "vectors'\neff. rank",
        "aniso-\ntropy", "uni-\nformity", "align-\nment", gap=2,
    )  # fmt: skip
    fold_names(table)
    for model, step in dict.fromkeys((row.model, row.step) for row in rows):
        of_model = [row for row in rows if (row.model, row.step) == (model, step)]
        layers = [row for row in of_model if row.layer is not None]
        vectors = next((row for row in of_model if row.layer is None), None)
        table.add_row(
            Text(printable(model, FOLDED_LENGTH)),
            number(step),
            *three_digits(
                mean_of(row.effective_rank for row in layers),
                mean_of(row.stable_rank for row in layers),
                mean_of(row.largest_over_mean for row in layers),
            ),
            *shape_of(vectors),
        )
    return table


def shape_of(row: SpectrumStatistics | None) -> list[str]:
    """How vectors lie: effective rank, anisotropy, uniformity, alignment."""
    if row is None:
        return [NO_VALUE] * 4
    return three_digits(row.effective_rank, row.anisotropy, row.uniformity, row.alignment)


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def whole(value: float | None) -> str:
    """A count that was read as a number."""
    return NO_VALUE if value is None else f"{value:,.0f}"


def three_digits(*values: float | None) -> list[str]:
    """Numbers that are known to about three digits."""
    return [number(value, 3) for value in values]
