"""The numbers of one column as plain Python floats; None where the column has no value."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a column is distributed, in the column's unit; `last` is its last value."""

    median: float | None
    mean: float | None
    p5: float | None
    p95: float | None
    min: float
    max: float
    last: float | None


def aggregate(column: pl.Series, expression: pl.Expr) -> float | None:
    """`expression` over `column`, which it calls "x"."""
    value = column.alias("x").to_frame().select(expression).item()
    return None if value is None else float(value)


def first(column: pl.Series) -> float | None:
    """The value of the first row that has one."""
    return aggregate(column, pl.col("x").drop_nulls().first())


def last(column: pl.Series) -> float | None:
    """The value of the last row that has one."""
    return aggregate(column, pl.col("x").drop_nulls().last())


def mean(column: pl.Series) -> float | None:
    """The mean of the values that are there."""
    return aggregate(column, pl.col("x").mean())


def median(column: pl.Series) -> float | None:
    """The median of the values that are there."""
    return aggregate(column, pl.col("x").median())


def total(column: pl.Series) -> float | None:
    """The sum of the values that are there."""
    return aggregate(column, pl.col("x").cast(pl.Float64).sum()) if column.count() else None


def percentile(column: pl.Series, percent: float | int) -> float | None:
    """The value that `percent` of the others do not exceed: 0 is the smallest, 100 the largest."""
    return aggregate(column, pl.col("x").quantile(percent / 100))


def extent(column: pl.Series) -> tuple[float, float]:
    """The smallest and the largest value of a column that has one."""
    low, high = aggregate(column, pl.col("x").min()), aggregate(column, pl.col("x").max())
    assert low is not None
    assert high is not None
    return low, high


def summary(column: pl.Series) -> Summary | None:
    """How the column's values are distributed; None where there are none."""
    values = column.drop_nulls().sort()
    if values.is_empty():
        return None
    return Summary(
        median=median(values),
        mean=mean(values),
        p5=percentile(values, 5),
        p95=percentile(values, 95),
        min=float(values[0]),
        max=float(values[-1]),
        last=last(column),
    )
