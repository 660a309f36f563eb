"""Curves of several runs: every value in its place."""

import polars as pl

from kl3m_embeddings.report.plots.curves import (
    by_step,
    by_tokens,
    evals_along,
    loss_along,
    metric_along,
)
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.losses import moving_average
from tests.report.logs import log_row, write_run


def test_along_tokens_keeps_every_loss_in_place(tmp_path):
    rows = [log_row(step) for step in range(50)]
    run = read_run(write_run(tmp_path, rows=rows))
    losses = loss_along(run, 5, by_tokens)
    evals = evals_along(run.evals, "mean", by_tokens(run.steps))
    assert losses["y"].to_list() == moving_average(run.steps, 5)["average"].to_list()
    seen = sum(row["num_tokens"] for row in rows[:21])
    assert losses["x"][20] == seen
    assert (seen, run.evals["mean"][2]) in evals.rows()


def test_metrics_before_the_first_step_are_at_its_start(tmp_path):
    run = read_run(write_run(tmp_path, rows=[log_row(step) for step in (5, 6)]))
    points = pl.DataFrame({"step": [0, 5, 9], "value": [0.1, 0.2, 0.3]})
    assert metric_along(run, points, by_step).rows() == [(0.0, 0.1), (5.0, 0.2), (6.0, 0.3)]
