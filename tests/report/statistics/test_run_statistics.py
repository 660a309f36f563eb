"""Statistics by columns equal those of a plain loop over the same rows."""

import json

import numpy as np
import polars as pl
import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.losses import moving_average
from kl3m_embeddings.report.statistics.plain import as_plain
from kl3m_embeddings.report.statistics.run_statistics import default_window, describe_run
from kl3m_embeddings.report.statistics.steps import FallbackStatistics, SkippedSteps
from tests.report.logs import log_row, write_lines, write_run


@pytest.fixture(scope="module")
def rows():
    rows = [log_row(step) for step in range(1, 151)]
    for step in (40, 41, 99):
        rows[step - 1] |= {"loss": None, "skipped": True, "grad_norm": None}
    return rows


@pytest.fixture(scope="module")
def statistics(rows, tmp_path_factory):
    return describe_run(read_run(write_run(tmp_path_factory.mktemp("run"), rows=rows)), window=20)


def test_loss(rows, statistics):
    losses = [(row["step"], row["loss"]) for row in rows if row["loss"] is not None]
    averages = [
        (np.mean([loss for _, loss in losses[max(0, end - 20) : end]]), losses[end - 1][0])
        for end in range(1, len(losses) + 1)
    ]
    loss = statistics.loss
    assert (loss.first, loss.last) == (losses[0][1], losses[-1][1])
    assert loss.last_average == pytest.approx(averages[-1][0])
    best = min(averages[19:])
    assert (loss.best_average, loss.best_average_step) == (pytest.approx(best[0]), best[1])
    assert loss.mean_of_last == {"100": pytest.approx(np.mean([x for _, x in losses[-100:]]))}


def test_loss_by_window(rows, statistics):
    assert [row.first_step for row in statistics.loss_by_window] == list(range(1, 151, 15))
    third = [row for row in rows[30:45] if row["loss"] is not None]
    window = statistics.loss_by_window[2]
    assert window.mean == pytest.approx(np.mean([row["loss"] for row in third]))
    seconds = sum(row["step_time"] for row in rows[30:45])
    tokens = sum(row["num_tokens"] for row in rows[30:45])
    assert window.tokens_per_s == pytest.approx(tokens / seconds, rel=1e-5)


@pytest.mark.parametrize("column", ["task", "reduced_dim"])
def test_loss_by_name(rows, statistics, column):
    found = {row.name: row for row in getattr(statistics, f"loss_by_{column}")}
    assert set(found) == {row[column] for row in rows}
    for name, entry in found.items():
        mine = [row for row in rows if row[column] == name]
        assert entry.num_steps == len(mine)
        assert entry.num_tokens == sum(row["num_tokens"] for row in mine)
        last = [row["loss"] for row in rows[-15:] if row[column] == name]
        assert entry.last_mean == (pytest.approx(np.mean(last)) if last else None)


def test_tasks_of_equally_many_steps_are_in_the_order_of_their_names(tmp_path):
    rows = [log_row(step, task=f"task{7 * step % 12:02}") for step in range(1, 25)]
    run = read_run(write_run(tmp_path, rows=rows))
    names = [row.name for row in describe_run(run).loss_by_task]
    assert names == run.tasks == [f"task{index:02}" for index in range(12)]


def test_speed_and_phases(rows, statistics):
    step_times = [row["step_time"] for row in rows]
    tokens = sum(row["num_tokens"] for row in rows)
    assert statistics.speed.tokens_per_s == pytest.approx(tokens / sum(step_times), rel=1e-5)
    phases = {row.name: row.seconds for row in statistics.phases}
    low, high = np.percentile(step_times, [25, 75], method="nearest")
    usual = [row for row in rows if low <= row["step_time"] <= high]
    for name in ("sample", "forward", "backward", "optimizer"):
        expected = np.mean([row[f"{name}_time"] for row in usual])
        assert phases[name] == pytest.approx(expected, rel=1e-5)
    expected = np.mean([row["step_time"] for row in usual])
    assert sum(phases.values()) == pytest.approx(expected, rel=1e-5)
    assert sum(row.share for row in statistics.phases) == pytest.approx(1)


def test_clipping_skips_and_padding(rows, statistics):
    norms = [row["grad_norm"] for row in rows if row["grad_norm"] is not None]
    clipping = statistics.clipping
    assert clipping.num_clipped == sum(norm > 1.5 for norm in norms)
    assert clipping.share == clipping.num_clipped / len(norms)
    assert clipping.grad_norm.p95 == pytest.approx(
        np.percentile(norms, 95, method="nearest"), rel=1e-5
    )
    expected = SkippedSteps(num_skipped=3, share=0.02, last_steps=[40, 41, 99])
    assert statistics.skipped == expected
    samples = sum(row["num_samples"] for row in rows)
    assert statistics.fallbacks == FallbackStatistics(num_fallback=150.0, share=150 / samples)
    padding = np.mean([row["padding_fraction"] for row in rows])
    assert statistics.padding.mean == pytest.approx(padding, rel=1e-5)


def test_datasets(rows, statistics):
    assert len(statistics.datasets) == 3
    for entry in statistics.datasets:
        for field, key in (("samples_by_dataset", "samples"), ("tokens_by_dataset", "tokens")):
            mine = sum(row[field].get(entry.name, 0) for row in rows)
            whole = sum(sum(row[field].values()) for row in rows)
            assert getattr(entry, f"num_{key}") == mine
            assert getattr(entry, f"share_of_{key}") == pytest.approx(mine / whole)


def test_progress_and_evaluations(rows, statistics):
    progress, evals = statistics.progress, statistics.eval
    assert (progress.last_step, progress.total_steps, progress.share) == (150, 100, 1.5)
    assert progress.eta_s == 0
    assert progress.num_tokens == sum(row["num_tokens"] for row in rows)
    assert (*(row["step"] for row in evals.shown.values()),) == (0, 50, 50)


def test_time_left(tmp_path):
    progress = describe_run(read_run(write_run(tmp_path))).progress
    times = [log_row(step)["step_time"] for step in range(1, 61)]
    assert progress.eta_s == pytest.approx(40 * np.mean(times), rel=1e-5)


def test_everything_is_strict_json_even_for_one_field(tmp_path):
    for name, line in enumerate(
        ['{"step": 0}', '{"step": 3, "loss": 1e999, "task": "\\u001b[1m"}']
    ):
        log = write_run(tmp_path / str(name), rows=[line], evals=False, starts=False)
        text = json.dumps(as_plain(describe_run(read_run(log))), allow_nan=False)
        assert "\\u001b" not in text


def test_values_of_run_jsonl_are_made_safe(tmp_path):
    log = write_run(tmp_path, starts=False)
    write_lines(
        tmp_path / "run.jsonl", ['{"step": 0, "hardware": {"a": 1e999, "b": ["\\u001bx"]}}']
    )
    assert describe_run(read_run(log)).run.hardware == {"a": None, "b": ["?x"]}


def test_phases_longer_than_the_step_are_shares_of_their_sum(tmp_path):
    rows = [{"step": 1, "forward_time": 3.0, "backward_time": 1.0, "step_time": 2.0}]
    phases = describe_run(read_run(write_run(tmp_path, rows=rows))).phases
    assert [(row.name, row.share) for row in phases] == [
        ("forward", 0.75),
        ("backward", 0.25),
    ]


def test_the_window_grows_with_the_run():
    assert [default_window(n) for n in (0, 1, 39, 40, 2888, 10**7)] == [1, 1, 1, 2, 100, 1000]


def test_moving_average_leaves_out_skipped_steps():
    steps = pl.DataFrame({"step": [1, 2, 3], "loss": [1.0, None, 3.0]})
    assert moving_average(steps, 2).rows() == [(1, 1.0, 1.0), (3, 3.0, 2.0)]
