"""Numbers of a column: plain floats, None where there is no value."""

import polars as pl
import pytest

from kl3m_embeddings.report.statistics import columns
from kl3m_embeddings.report.statistics.columns import Summary

VALUES = pl.Series([None, 4.0, 1.0, None, 2.0, 9.0, None])


def test_values_that_are_missing_do_not_count():
    assert (columns.first(VALUES), columns.last(VALUES)) == (4.0, 9.0)
    assert (columns.mean(VALUES), columns.median(VALUES)) == (4.0, 3.0)
    assert columns.total(VALUES) == 16.0
    assert columns.extent(VALUES) == (1.0, 9.0)
    assert [columns.percentile(VALUES, percent) for percent in (0, 100)] == [1.0, 9.0]


@pytest.mark.parametrize("name", ["first", "last", "mean", "median", "total", "summary"])
def test_a_column_without_values_has_none(name):
    assert getattr(columns, name)(pl.Series([None, None], dtype=pl.Float64)) is None


def test_a_sum_of_small_floats_is_a_double():
    assert columns.total(pl.Series([2.0**24, 1.0], dtype=pl.Float32)) == 2**24 + 1


def test_a_summary():
    found = columns.summary(pl.Series([None, *range(1, 101), 50, None]).cast(pl.Float64))
    assert found == Summary(
        median=50.0, mean=5100 / 101, p5=6.0, p95=95.0, min=1.0, max=100.0, last=50.0
    )
