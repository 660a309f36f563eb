"""Runs against each other."""

import io
from pathlib import Path

from matplotlib.image import imread  # noqa: TID251
from rich.console import Console

from kl3m_embeddings.report.compare import (
    by_tokens,
    compare_plots,
    compare_table,
    loss_along,
    unique_names,
)
from kl3m_embeddings.report.run import read_run
from kl3m_embeddings.report.statistics import describe_run, moving_average
from tests.report.logs import log_row, write_run


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
    console.print(compare_table([{**describe_run(run), "name": run.name} for run in runs]))
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
    losses, evals = loss_along(run, 5, by_tokens)
    assert losses["y"].to_list() == moving_average(run.steps, 5)["average"].to_list()
    seen = sum(row["num_tokens"] for row in rows[:21])
    assert losses["x"][20] == seen
    assert (seen, run.evals["mean"][2]) in evals.rows()
