"""Bins: nothing is lost, nothing counted twice."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.report.plots.binning import bin_width, binned, to_edges

STEPS = st.lists(st.integers(0, 10**6), min_size=1, max_size=50, unique=True).map(sorted)


@given(STEPS, st.integers(1, 20))
def test_bins_add_up_and_lie_within_the_steps(steps, num_bins):
    table = pl.DataFrame({"step": steps, "x": steps})
    bins = binned(table, pl.col("x").sum(), pl.len(), num_bins=num_bins)
    assert bins["x"].sum() == sum(steps)
    assert len(bins) <= num_bins
    width = bin_width(table, num_bins)
    assert all((step - steps[0] - (width - 1) / 2) % width == 0 for step in bins["step"])
    ends = to_edges(bins, table)["step"]
    assert ends[0] <= steps[0]
    assert ends[-1] >= steps[-1]
    assert ends[-1] > ends[0]


def test_a_bin_a_step_is_the_table_itself():
    table = pl.DataFrame({"step": [3, 4, 6], "x": [1, 2, 3]})
    assert binned(table, pl.col("x").sum()).rows() == [(3.0, 1), (4.0, 2), (6.0, 3)]
