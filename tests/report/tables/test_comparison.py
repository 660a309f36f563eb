"""Runs against each other."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread  # noqa: TID251
from rich.console import Console

from kl3m_embeddings.report.plots.comparison import compare_plots, metric_panels, training_panels
from kl3m_embeddings.report.plots.curves import (
    by_step,
    by_tokens,
    evals_along,
    loss_along,
    metric_along,
)
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.losses import moving_average
from kl3m_embeddings.report.statistics.pair_metrics import MetricStatistics, PairMetrics
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.comparison import (
    compare_metrics_table,
    compare_table,
    render_comparison,
    unique_names,
)
from tests.report.logs import (
    eval_row,
    log_row,
    mixed_eval_row,
    mixed_row,
    pair_eval_row,
    pair_row,
    write_lines,
    write_run,
)


def test_names_are_folders_with_as_many_parents_as_needed():
    logs = [Path("/r/a/x/log.jsonl"), Path("/r/b/x/log.jsonl"), Path("/r/y/log.jsonl")]
    assert unique_names(logs) == ["a/x", "b/x", "y"]
    assert unique_names([Path("/r/y/log.jsonl"), Path("/r/y/old.jsonl")]) == ["y", "y/old.jsonl"]
    assert unique_names([Path("/y/log.jsonl")] * 2) == ["//y", "//y"]


def test_plots_and_table(tmp_path):
    logs = [write_run(tmp_path / f"run{seed}", 40 + seed, seed=seed) for seed in range(12)]
    logs.append(write_run(tmp_path / "blind", evals=False))
    logs.append(write_run(tmp_path / "empty", rows=[]))
    runs = [read_run(log) for log in logs]
    names = unique_names(logs)
    written, missing = compare_plots(runs, names, 10, tmp_path / "out")
    assert [path.name for path in written] == ["loss_by_step.png", "loss_by_tokens.png"]
    assert all(imread(path)[..., :3].std() > 0.05 for path in written)
    assert missing == [
        f"loss_by_{axis}.png: empty is not drawn: its log has no loss, or no {name}"
        for axis, name in (("step", "step"), ("tokens", "tokens seen"))
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(compare_table([describe_run(run) for run in runs]))
    text = console.file.getvalue()
    assert all(name in text for name in names)


def test_runs_without_evaluations_or_losses(tmp_path):
    runs = [read_run(write_run(tmp_path / name, evals=False)) for name in ("a", "b")]
    written, _ = compare_plots(runs, ["a", "b"], 1, tmp_path)
    assert len(written) == 2
    empty = read_run(write_run(tmp_path / "c", rows=[{"step": 1}], evals=False))
    assert compare_plots([empty], ["c"], 1, tmp_path / "none")[0] == []


def test_along_tokens_keeps_every_loss_in_place(tmp_path):
    rows = [log_row(step) for step in range(50)]
    run = read_run(write_run(tmp_path, rows=rows))
    losses = loss_along(run, 5, by_tokens)
    evals = evals_along(run.evals, "mean", by_tokens(run.steps))
    assert losses["y"].to_list() == moving_average(run.steps, 5)["average"].to_list()
    seen = sum(row["num_tokens"] for row in rows[:21])
    assert losses["x"][20] == seen
    assert (seen, run.evals["mean"][2]) in evals.rows()


def runs_of_several_kinds(folder):
    """One of each: both kinds of tasks, pairs only, masks only, and a log without steps."""
    mixed = write_run(
        folder / "mixed", evals=mixed_eval_row, rows=[mixed_row(step) for step in range(1, 121)]
    )
    rows = [pair_row(step, seed=1) for step in range(1, 41)]
    pairs = write_run(folder / "pairs", evals=lambda step: pair_eval_row(step, 1), rows=rows)
    masked = write_run(folder / "masked", evals=eval_row)
    empty = write_run(folder / "empty", evals=pair_eval_row, rows=[])
    logs = [mixed, pairs, masked, empty]
    return [read_run(log) for log in logs], unique_names(logs)


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


def test_comparing_runs_of_several_kinds(tmp_path):
    runs, names = runs_of_several_kinds(tmp_path)
    written, missing = compare_plots(runs, names, 5, tmp_path / "out")
    assert {path.name for path in written} == {
        f"{what}_by_{axis}.png" for what in ("loss", "pair_metrics") for axis in ("step", "tokens")
    }
    assert all(imread(path)[..., :3].std() > 0.05 for path in written)
    assert all("empty is not drawn" in note for note in missing)
    statistics = [
        replace(describe_run(run), name=name) for run, name in zip(runs, names, strict=True)
    ]
    console = Console(file=io.StringIO(), width=100)
    for renderable in render_comparison(statistics, missing):
        console.print(renderable)
    lines = console.file.getvalue().splitlines()
    start = next(place for place, line in enumerate(lines) if "Held-out pairs compared" in line)
    best = max((pair_eval_row(step, 1)["nq/ndcg@10"], step) for step in range(0, 60, 10))
    assert lines[start + 3].startswith("nq ndcg@10 ")
    assert lines[start + 4].split()[0] == "pairs"
    assert lines[start + 4].split()[2:4] == [f"{best[0]:.4f}", str(best[1])]


def test_the_best_run_of_each_set_is_bold(tmp_path):
    statistics = describe_run(read_run(write_run(tmp_path, rows=[], evals=False)))

    def of_run(name, best):
        row = MetricStatistics(name="ap", dim=None, first=0.1, best=best, best_step=3, last=0.2)
        metrics = PairMetrics(name="nq", headline="ap", metrics=[row])
        return replace(statistics, name=name, pair_metrics=[metrics])

    [table] = compare_metrics_table([of_run("a", 0.3), of_run("b", 0.5), of_run("c", 0.4)])
    assert [cell.plain for cell in table.columns[1].cells if cell.style] == ["b"]
    assert list(compare_metrics_table([statistics])) == []


def test_one_set_and_no_held_out_loss(tmp_path):
    for name in ("a", "b"):
        evals = [{"step": step, f"{name}/ap": 0.5 + step / 100} for step in (0, 7)]
        rows = [pair_row(step, task=name) for step in range(1, 9)]
        write_lines(write_run(tmp_path / name, rows=rows).with_name("eval.jsonl"), evals)
    runs = [read_run(tmp_path / name) for name in ("a", "b")]
    written, missing = compare_plots(runs, ["a", "b"], 1, tmp_path / "both")
    assert (len(written), missing) == (4, [])
    assert len(compare_plots(runs[:1], ["a"], 1, tmp_path / "one")[0]) == 4


def test_metrics_before_the_first_step_are_at_its_start(tmp_path):
    run = read_run(write_run(tmp_path, rows=[log_row(step) for step in (5, 6)]))
    points = pl.DataFrame({"step": [0, 5, 9], "value": [0.1, 0.2, 0.3]})
    assert metric_along(run, points, by_step).rows() == [(0.0, 0.1), (5.0, 0.2), (6.0, 0.3)]
