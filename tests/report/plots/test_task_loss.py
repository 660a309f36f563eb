"""Losses task by task: a panel for each, with its own values."""

import pytest

from kl3m_embeddings.report.plots.all_plots import PLOTS
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.plots.task_loss import evaluated_task, task_losses_by_step
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import mixed_row, pair_row, values, write_run

TASKS = ["mlm", "pairs", "nsp", "crop", "ssd"]


def test_a_task_without_any_loss_is_left_out_of_its_plots(tmp_path):
    rows = [mixed_row(step) for step in range(1, 61)]
    rows += [pair_row(step, task="broken", loss=None, skipped=True) for step in range(61, 70)]
    run = read_run(write_run(tmp_path, rows=rows))
    with styled():
        for name in ("loss_by_step", "learning_rate_loss"):
            assert "broken" not in [axes.get_ylabel() for axes in PLOTS[name](run, 5).axes]
        assert PLOTS["loss_hist_by_task"](run, 5).axes
    entry = next(one for one in describe_run(run).loss_by_task if one.name == "broken")
    assert entry.loss.last_average is None


@pytest.mark.parametrize("name", ["loss_by_step", "learning_rate_loss"])
def test_each_task_has_a_panel_with_its_own_losses(name, mixed_run, mixed_rows):
    with styled():
        figure = PLOTS[name](mixed_run, 10)
    panels = {axes.get_ylabel(): axes for axes in figure.axes}
    assert set(TASKS) <= set(panels)
    for task in TASKS:
        drawn = [list(line.get_ydata()) for line in panels[task].lines]
        assert values(mixed_rows, task, "loss") in drawn


def test_held_out_losses_are_in_the_panel_of_plain_masking(mixed_run):
    with styled():
        panels = {axes.get_ylabel(): axes for axes in task_losses_by_step(mixed_run, 10).axes}
    labels = {
        task: [line.get_label() for line in axes.lines if "held-out" in str(line.get_label())]
        for task, axes in panels.items()
    }
    assert labels.pop("mlm") == ["held-out mean"]
    assert not any(labels.values())
    assert evaluated_task(mixed_run) == "mlm"
