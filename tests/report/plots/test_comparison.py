"""Plots of several runs: panels that join only what can be compared."""

import numpy as np
import pytest

from kl3m_embeddings.report.plots.comparison import compare_plots, metric_panels, training_panels
from kl3m_embeddings.report.plots.curves import by_step, by_tokens
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.tables.comparison import unique_names
from tests.report.logs import (
    mixed_row,
    pair_eval_row,
    pair_row,
    write_lines,
    write_run,
    write_runs_of_several_kinds,
)


def runs_of_several_kinds(folder):
    logs = write_runs_of_several_kinds(folder)
    return [read_run(log) for log in logs], unique_names(logs)


def test_runs_without_evaluations_or_losses(tmp_path):
    runs = [read_run(write_run(tmp_path / name, evals=False)) for name in ("a", "b")]
    written, _ = compare_plots(runs, ["a", "b"], 1, tmp_path)
    assert len(written) == 2
    empty = read_run(write_run(tmp_path / "c", rows=[{"step": 1}], evals=False))
    assert compare_plots([empty], ["c"], 1, tmp_path / "none")[0] == []


def test_losses_that_cannot_be_compared_have_panels_of_their_own(tmp_path):
    runs, names = runs_of_several_kinds(tmp_path)
    panels = training_panels(runs, names, 5, by_step)
    drawn = {task: [curve.name for curve in curves] for task, curves in panels.items()}
    assert drawn == {
        "mlm": ["mixed", "masked"],
        "nsp": ["mixed", "masked"],
        "pairs": ["mixed", "pairs"],
        "crop": ["mixed"],
        "ssd": ["mixed"],
    }
    of_pairs = panels["pairs"][0].points
    rows = [mixed_row(step) for step in range(1, 121)]
    mine = [(row["step"], row["loss"]) for row in rows if row["task"] == "pairs"]
    assert of_pairs["x"].to_list() == [step for step, _ in mine]
    window = round(5 * len(mine) / 120)
    assert of_pairs["y"][-1] == pytest.approx(np.mean([loss for _, loss in mine[-window:]]))
    alone = training_panels(runs[2:3], names[2:3], 5, by_step)
    assert list(alone) == ["training loss, average of 5 steps"]
    assert list(training_panels(runs[1:2], names[1:2], 5, by_step)) == list(alone)


def test_held_out_metrics_of_several_runs(tmp_path):
    runs, names = runs_of_several_kinds(tmp_path)
    panels = metric_panels(runs, names, by_tokens)
    assert list(panels) == ["nq\nndcg@10", "quora\nap", "sts\nspearman"]
    for curves in panels.values():
        assert [curve.name for curve in curves] == ["mixed", "pairs"]
    points = panels["nq\nndcg@10"][1].points
    assert points["x"].to_list()[:2] == [
        0.0,
        sum(pair_row(s, seed=1)["num_tokens"] for s in range(1, 11)),
    ]
    assert points["y"].to_list() == [
        pair_eval_row(step, 1)["nq/ndcg@10"] for step in range(0, 60, 10)
    ]


def test_one_set_and_no_held_out_loss(tmp_path):
    for name in ("a", "b"):
        evals = [{"step": step, f"{name}/ap": 0.5 + step / 100} for step in (0, 7)]
        rows = [pair_row(step, task=name) for step in range(1, 9)]
        write_lines(write_run(tmp_path / name, rows=rows).with_name("eval.jsonl"), evals)
    runs = [read_run(tmp_path / name) for name in ("a", "b")]
    written, missing = compare_plots(runs, ["a", "b"], 1, tmp_path / "both")
    assert (len(written), missing) == (4, [])
    assert len(compare_plots(runs[:1], ["a"], 1, tmp_path / "one")[0]) == 4
