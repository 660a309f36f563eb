"""The numbers of one column as plain Python floats; None where the column has no value."""

import polars as pl


def aggregate(column: pl.Series, expression: pl.Expr) -> float | None:
    """`expression` over `column`, which it calls "x"."""
    value = column.alias("x").to_frame().select(expression).item()
    return None if value is None else float(value)


def first(column: pl.Series) -> float | None:
    """The first value."""
    return aggregate(column, pl.col("x").drop_nulls().first())


def last(column: pl.Series) -> float | None:
    """The last value."""
    return aggregate(column, pl.col("x").drop_nulls().last())


def mean(column: pl.Series) -> float | None:
    """The mean."""
    return aggregate(column, pl.col("x").mean())


def median(column: pl.Series) -> float | None:
    """The median."""
    return aggregate(column, pl.col("x").median())


def total(column: pl.Series) -> float | None:
    """The sum."""
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


def summary(column: pl.Series) -> dict[str, float | None] | None:
    """Median, mean, percentiles, extremes and the last value."""
    values = column.drop_nulls().sort()
    if values.is_empty():
        return None
    return {
        "median": median(values),
        "mean": mean(values),
        "p5": percentile(values, 5),
        "p95": percentile(values, 95),
        "min": float(values[0]),
        "max": float(values[-1]),
        "last": last(column),
    }
