"""The phases of a step, one upon the other."""

import polars as pl
import pytest

from kl3m_embeddings.report.plots.speed import highest, stack_of_phases
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import write_run


def test_phases_add_up_to_the_step_time(tmp_path):
    steps = read_run(write_run(tmp_path, num_steps=300)).steps
    names = ["sample", "forward", "backward", "optimizer", "other"]
    stack = stack_of_phases(steps, names)
    sums = stack.select(pl.sum_horizontal(names)).to_series().to_list()
    assert sums == pytest.approx(stack["step_time"].to_list(), rel=1e-5)
    assert all(stack["p95"] >= stack["step_time"])
    assert stack["p95"].max() < highest(stack, names) < 1
