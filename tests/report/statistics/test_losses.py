"""The loss in numbers equals that of a plain loop over the same rows."""

import numpy as np
import polars as pl
import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.losses import MixedLossWindow, moving_average, steps_by_task
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import log_row, values, write_run

TASKS = ["mlm", "pairs", "nsp", "crop", "ssd"]
NUM_STEPS = 200


def test_loss(masked_rows, masked_statistics):
    losses = [(row["step"], row["loss"]) for row in masked_rows if row["loss"] is not None]
    averages = [
        (np.mean([loss for _, loss in losses[max(0, end - 20) : end]]), losses[end - 1][0])
        for end in range(1, len(losses) + 1)
    ]
    loss = masked_statistics.loss
    assert (loss.first, loss.last) == (losses[0][1], losses[-1][1])
    assert loss.last_average == pytest.approx(averages[-1][0])
    best = min(averages[19:])
    assert (loss.best_average, loss.best_average_step) == (pytest.approx(best[0]), best[1])
    assert loss.mean_of_last == {"100": pytest.approx(np.mean([x for _, x in losses[-100:]]))}


def test_loss_by_window(masked_rows, masked_statistics):
    assert [row.first_step for row in masked_statistics.loss_by_window] == list(range(1, 151, 15))
    third = [row for row in masked_rows[30:45] if row["loss"] is not None]
    window = masked_statistics.loss_by_window[2]
    assert window.mean == pytest.approx(np.mean([row["loss"] for row in third]))
    seconds = sum(row["step_time"] for row in masked_rows[30:45])
    tokens = sum(row["num_tokens"] for row in masked_rows[30:45])
    assert window.tokens_per_s == pytest.approx(tokens / seconds, rel=1e-5)


@pytest.mark.parametrize("column", ["task", "reduced_dim"])
def test_loss_by_name(masked_rows, masked_statistics, column):
    found = {row.name: row for row in getattr(masked_statistics, f"loss_by_{column}")}
    assert set(found) == {row[column] for row in masked_rows}
    for name, entry in found.items():
        mine = [row for row in masked_rows if row[column] == name]
        assert entry.num_steps == len(mine)
        assert entry.num_tokens == sum(row["num_tokens"] for row in mine)
        last = [row["loss"] for row in masked_rows[-15:] if row[column] == name]
        assert entry.last_mean == (pytest.approx(np.mean(last)) if last else None)


def test_tasks_of_equally_many_steps_are_in_the_order_of_their_names(tmp_path):
    rows = [log_row(step, task=f"task{7 * step % 12:02}") for step in range(1, 25)]
    run = read_run(write_run(tmp_path, rows=rows))
    names = [row.name for row in describe_run(run).loss_by_task]
    assert names == run.tasks == [f"task{index:02}" for index in range(12)]


def test_moving_average_leaves_out_skipped_steps():
    steps = pl.DataFrame({"step": [1, 2, 3], "loss": [1.0, None, 3.0]})
    assert moving_average(steps, 2).rows() == [(1, 1.0, 1.0), (3, 3.0, 2.0)]


def test_no_loss_is_one_of_all_tasks(mixed_statistics):
    assert {key: value for key, value in vars(mixed_statistics.loss).items() if value} == {
        "window": 20
    }
    assert {type(window) for window in mixed_statistics.loss_by_window} == {MixedLossWindow}


def test_losses_of_each_task(mixed_rows, mixed_statistics):
    for entry in mixed_statistics.loss_by_task:
        losses = values(mixed_rows, entry.name, "loss")
        window = round(20 * entry.num_steps / NUM_STEPS)
        assert entry.num_steps == len([row for row in mixed_rows if row["task"] == entry.name])
        assert entry.loss.window == window
        assert (entry.loss.first, entry.loss.last) == (losses[0], losses[-1])
        assert entry.loss.last_average == pytest.approx(np.mean(losses[-window:]))


def test_windows_have_the_mean_of_each_task(mixed_rows, mixed_statistics):
    for index, window in enumerate(mixed_statistics.loss_by_window):
        mine = mixed_rows[20 * index : 20 * index + 20]
        assert set(window.mean_by_task) == set(TASKS)
        for task, mean in window.mean_by_task.items():
            losses = values(mine, task, "loss")
            assert mean == (pytest.approx(np.mean(losses)) if losses else None)


def test_dimensions_are_those_of_masked_tasks(mixed_rows, mixed_statistics):
    masked = [row for row in mixed_rows if row["task"] in ("mlm", "nsp")]
    for entry in mixed_statistics.loss_by_reduced_dim:
        mine = [row for row in masked if row["reduced_dim"] == entry.name]
        assert entry.num_steps == len(mine)
        assert entry.share == pytest.approx(len(mine) / len(masked))


def test_averages_of_all_tasks_span_the_same_stretch(mixed_run):
    for one in steps_by_task(mixed_run, 20):
        assert one.window == round(20 * one.steps.height / NUM_STEPS)
    assert all(one.window == 1 for one in steps_by_task(mixed_run, 1))
