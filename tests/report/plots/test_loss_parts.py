"""What the loss plots are drawn of."""

import polars as pl
import pytest

from kl3m_embeddings.report.plots import loss_parts
from kl3m_embeddings.report.plots.style import new_figure, place, styled
from kl3m_embeddings.report.statistics.losses import moving_average


@pytest.fixture
def axes():
    with styled():
        return place(new_figure("title", "subtitle"))[0]


def steps(losses):
    return pl.DataFrame({"step": list(range(1, len(losses) + 1)), "loss": losses})


def test_few_steps_are_dots_and_many_a_band(axes):
    losses = [float(index % 10) for index in range(loss_parts.MAX_DOTS + 500)]
    few = moving_average(steps(losses[:100]), 10)
    loss_parts.draw_training_loss(axes, few, 10)
    dots, average = axes.lines
    assert list(dots.get_ydata()) == losses[:100]
    assert average.get_label() == "moving average, last 10 steps"
    assert average.get_ydata()[-1] == 4.5
    loss_parts.draw_training_loss(axes, moving_average(steps(losses), 10), 10)
    assert [band.get_label() for band in axes.collections] == ["training loss, p5 to p95"]


def test_outliers_are_left_outside_and_said(axes):
    averages = pl.Series([2.0] * 100)
    note = loss_parts.limit_loss(axes, [2.0] * 100 + [500.0], averages)
    assert note == "Above the axis: values up to 500."
    assert axes.get_ylim()[1] < 3
    assert loss_parts.limit_loss(axes, [2.0, 3.0], averages) == ""
    assert axes.get_ylim()[1] > 3


@pytest.mark.parametrize(
    ("means", "labels"),
    [([5.0, 4.0], ["held-out 4.00, best"]), ([3.0, 4.0], ["held-out 4.00", "best 3.00 at 0"])],
)
def test_the_best_evaluation_is_named(means, labels):
    evals = pl.DataFrame({"step": [0, 10], "mean": means})
    assert [label.text for label in loss_parts.eval_labels(evals)] == labels


def test_evaluations_have_whiskers(axes):
    rows = pl.DataFrame({"step": [0, 10], "mean": [5.0, 4.0], "p5": [1.0, 2.0], "p95": [8.0, 9.0]})
    assert sorted(loss_parts.draw_evals(axes, rows)) == [1.0, 2.0, 4.0, 5.0, 8.0, 9.0]
    [whiskers] = axes.collections
    assert [sorted(part[:, 1]) for part in whiskers.get_segments()] == [[2.0, 9.0], [1.0, 8.0]]


def test_rates():
    assert loss_parts.rate_title(pl.DataFrame({"lr": [1e-4, 2e-4]})) == (
        "Learning rate 2e-4, at its peak"
    )
    assert loss_parts.rate_title(pl.DataFrame({"lr": [2e-4, 1e-4]})) == (
        "Learning rate 1e-4, past its peak of 2e-4"
    )
