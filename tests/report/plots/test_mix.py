"""What a run is fed."""

import polars as pl

from kl3m_embeddings.report.plots.mix import OTHER, largest_names


def test_the_rest_of_many_names_is_one(tmp_path):
    counts = pl.DataFrame({"name": [str(n) for n in range(20)], "count": list(range(20))})
    totals = largest_names(counts)
    assert totals.rows()[0] == ("19", 19)
    assert totals.rows()[-1] == (OTHER, sum(range(12)))
    assert totals["count"].sum() == counts["count"].sum()
