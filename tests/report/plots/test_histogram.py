"""The loss of each task: the last quarter before the first."""

import numpy as np
import polars as pl
import pytest

from kl3m_embeddings.report.plots.histogram import bar_edges, loss_hist_by_task
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import log_row, write_run


def test_heights_are_shares_of_the_steps_of_a_quarter(tmp_path):
    rows = [log_row(step, task="mlm", loss=8.0 if step <= 50 else 2.0) for step in range(1, 101)]
    rows[0]["loss"], rows[-1]["loss"] = 1000.0, 1.0
    with styled():
        figure = loss_hist_by_task(read_run(write_run(tmp_path, rows=rows)), 1)
    [axes] = figure.axes
    first, last = (patch.get_data() for patch in axes.patches)
    assert sum(first.values) == pytest.approx(24 / 25)  # 1000 is beyond the axis
    assert sum(last.values) == pytest.approx(1)
    assert sorted(value for value in last.values if value) == pytest.approx([0.04, 0.96])
    [middle] = [line for line in axes.lines if line.get_label() == "its median"]
    assert list(middle.get_xdata()) == [2.0, 2.0]
    assert figure.texts[0].get_text() == "The loss of a step now has median 2.00"
    assert "Outside of the axis: 1 step." in figure.texts[-1].get_text()


def test_the_title_names_the_easiest_and_the_hardest_task(tmp_path):
    losses = {"mlm": 3.0, "nsp": 0.5}
    rows = [
        log_row(step, task=task, loss=losses[task])
        for step, task in enumerate(["mlm", "nsp"] * 20, start=1)
    ]
    with styled():
        figure = loss_hist_by_task(read_run(write_run(tmp_path, rows=rows)), 1)
    assert [axes.get_ylabel() for axes in figure.axes] == ["mlm", "nsp"]
    title = "nsp has the lowest median loss now, 0.500; mlm the highest, 3.00"
    assert figure.texts[0].get_text() == title


def test_mixed_losses_have_axes_of_their_own(mixed_run):
    with styled():
        figure = loss_hist_by_task(mixed_run, 1)
    panels = {axes.get_ylabel(): axes for axes in figure.axes}
    assert set(panels) == {"mlm", "nsp", "pairs", "crop", "ssd"}
    assert panels["mlm"].get_xlim() != panels["pairs"].get_xlim()


def test_bars_rise_by_factors_where_losses_span_scales():
    edges, is_log = bar_edges(pl.Series(np.geomspace(0.01, 10, 500)))
    assert is_log
    ratios = edges[1:] / edges[:-1]
    assert ratios == pytest.approx(ratios[0])
    edges, is_log = bar_edges(pl.Series(np.linspace(1, 2, 500)))
    assert not is_log and np.diff(edges) == pytest.approx(np.diff(edges)[0])
    same, _ = bar_edges(pl.Series([3.0] * 9))
    assert (same[0], same[-1]) == (3.0, 4.0)
