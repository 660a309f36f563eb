"""Runs against each other."""

import io
from dataclasses import replace
from pathlib import Path

from matplotlib.image import imread  # noqa: TID251
from rich.console import Console

from kl3m_embeddings.report.plots.comparison import compare_plots
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.pair_metrics import MetricStatistics, PairMetrics
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.comparison import (
    compare_metrics_table,
    compare_table,
    render_comparison,
    unique_names,
)
from tests.report.logs import (
    pair_eval_row,
    write_run,
    write_runs_of_several_kinds,
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


def runs_of_several_kinds(folder):
    logs = write_runs_of_several_kinds(folder)
    return [read_run(log) for log in logs], unique_names(logs)


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
