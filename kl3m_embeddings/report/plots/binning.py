"""Millions of steps as some hundred bins, so that a plot shows all of them and stays small."""

import polars as pl

from kl3m_embeddings.report.statistics.columns import extent

MAX_BINS = 240


def bin_width(steps: pl.DataFrame, num_bins: int = MAX_BINS) -> int:
    """How many steps one bin spans, at least 1."""
    first, last = extent(steps["step"])
    return max(1, -(-int(last - first + 1) // num_bins))


def binned(
    steps: pl.DataFrame, *aggregates: pl.Expr, by: tuple[str, ...] = (), num_bins: int = MAX_BINS
) -> pl.DataFrame:
    """`aggregates` over bins of steps, and over `by`; `step` becomes the middle of the bin."""
    first, _ = extent(steps["step"])
    width = bin_width(steps, num_bins)
    return (
        steps.group_by((pl.col("step") - int(first)) // width, *by)
        .agg(*aggregates)
        .with_columns(step=pl.col("step") * width + (first + (width - 1) / 2))
        .sort("step")
    )


def to_edges(table: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """The binned `table` drawn out from the middle of its outer bins to the first and last step."""
    first, last = extent(steps["step"])
    half = 0.5 if first == last else 0.0
    left = table.head(1).with_columns(step=pl.lit(first - half))
    right = table.tail(1).with_columns(step=pl.lit(last + half))
    return pl.concat([left, table, right])


def percentile_band(column: str) -> list[pl.Expr]:
    """The 5th and the 95th percentile of `column`, as p5 and p95."""
    return [
        pl.col(column).quantile(0.05).alias("p5"),
        pl.col(column).quantile(0.95).alias("p95"),
    ]
