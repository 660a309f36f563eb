"""The tables: complete, and safe to print."""

import io
from pathlib import Path

from rich.console import Console

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.output import write_statistics
from kl3m_embeddings.report.tables.run_tables import render
from tests.report.logs import (
    log_row,
    mixed_eval_row,
    mixed_row,
    pair_eval_row,
    pair_row,
    write_lines,
    write_run,
)

GOLDEN = Path(__file__).with_name("masked_run_stats.txt")


def shown(log):
    console = Console(file=io.StringIO(), width=100)
    for renderable in render(describe_run(read_run(log))):
        console.print(renderable)
    return console.file.getvalue()


def test_every_section_is_there(tmp_path):
    text = shown(write_run(tmp_path))
    for title in (
        "Run", "Progress", "Loss", "Loss by window", "Loss by task", "Loss by reduced dimension",
        "Evaluation (6 so far)", "Speed", "Phases of a usual step", "Health", "Data mix",
    ):  # fmt: skip
        assert f"\n{title} " in text, title
    assert "60 of 100 (60%)" in text
    assert "svd_mean_ratio_1" in text


def test_evaluations_cost_a_share_of_the_steps_time(tmp_path):
    log = write_run(tmp_path, rows=[log_row(step, total_time=0.5 * step) for step in range(1, 41)])
    times = {"eval_time": 1.0, "text_time": 0.6, "tasks_time": 0.1}
    write_lines(tmp_path / "eval.jsonl", [{"step": step, **times} for step in (20, 40)])
    assert " 2 s, 10% of the time of the steps (text 6.0%, tasks 1.0%)" in shown(log)


def test_an_empty_log_shows_what_is_missing(tmp_path):
    text = shown(write_run(tmp_path, rows=[], evals=False, starts=False))
    assert "note: log.jsonl: no step logged yet" in text
    assert "Loss by" not in text


def test_names_are_text_whatever_they_hold(tmp_path):
    name = "[red]x[/red]\x1b[31m\u202e"
    rows = [log_row(1, task=name, samples_by_dataset={name: 1, "[/]": 2})]
    log = write_run(tmp_path, rows=rows)
    write_lines(tmp_path / "run.jsonl", [{"step": 0, "command": ["\x1b[2J[bold]"], "time": "[/]"}])
    text = shown(log)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("[red]x[/red]?[31m?") == 2
    assert "?[2J[bold]" in text


def test_many_names_are_cut_and_counted(tmp_path):
    rows = [log_row(step, samples_by_dataset={f"name{step}": 1}) for step in range(30)]
    for row in rows:
        row["tokens_by_dataset"] = row["samples_by_dataset"]
    assert "and 22 more in stats.json" in shown(write_run(tmp_path, rows=rows))


def test_the_text_file_is_what_is_shown(tmp_path):
    log = write_run(tmp_path)
    statistics = describe_run(read_run(log))
    write_statistics(tmp_path, list(render(statistics)), statistics)
    assert (tmp_path / "stats.txt").read_text() == shown(log)


def test_a_run_of_masked_tasks_shows_what_it_showed_before_there_were_others(tmp_path):
    assert shown(write_run(tmp_path / "x", num_steps=300)) == GOLDEN.read_text(encoding="utf-8")


def test_every_section_of_a_run_of_several_kinds_of_tasks_is_there(tmp_path):
    rows = [mixed_row(step) for step in range(1, 201)]
    text = shown(write_run(tmp_path, 200, rows=rows, evals=mixed_eval_row))
    for title in (
        "Loss", "Loss by window", "Loss by task", "Loss by reduced dimension",
        "Tasks that compare vectors", "Mean similarity", "Evaluation (20 so far)",
        "Held-out pairs: nq", "Held-out pairs: quora", "Held-out pairs: sts", "Data mix",
    ):  # fmt: skip
        assert f"\n{title} " in text, title
    lines = text.splitlines()
    heads = next(line for line in lines if line.startswith("steps ")).split()
    assert set(heads[1:6]) == {"mlm", "nsp", "pairs", "crop", "ssd"}
    best = max(mixed_eval_row(step)["nq/ndcg@10/64"] for step in range(0, 200, 10))
    row = next(line for line in lines if line.startswith("ndcg@10 at 64 "))
    assert row.split()[4] == f"{best:.4f}"
    assert "5,000 documents" in text
    assert "and 8 more at smaller dimensions in stats.json" in text
    assert "temperature" in text


def test_pairs_only(tmp_path):
    rows = [pair_row(step, temperature=None) for step in range(1, 61)]
    text = shown(write_run(tmp_path, rows=rows, evals=pair_eval_row))
    assert "last average of 2 steps" in text
    assert "temperature" not in text
    assert "Held-out pairs: sts" in text
    assert "Loss by reduced dimension" not in text


def test_names_of_sets_and_of_embedding_tasks_are_text(tmp_path):
    name = "[red]x[/red]\x1b[31m"
    rows = [log_row(1), *(pair_row(step, task=name) for step in range(2, 9))]
    log = write_run(tmp_path, rows=rows)
    write_lines(tmp_path / "eval.jsonl", [{"step": 3, f"{name}/ap": 0.5, "[/]/ap": 0.25}])
    text = shown(log)
    assert "\x1b" not in text
    assert text.count("[red]x[/red]?[31m") == 5  # losses, by task, accuracy, similarity, held-out
    assert "Held-out pairs: [/]" in text


def test_many_tasks_and_sets_are_cut_and_counted(tmp_path):
    rows = [pair_row(step, task=f"task{step % 12}") for step in range(1, 60)]
    log = write_run(tmp_path, rows=rows)
    write_lines(tmp_path / "eval.jsonl", [{"step": 3, **{f"set{n}/ap": 0.5 for n in range(11)}}])
    text = shown(log)
    assert text.count("and 4 more in stats.json") == 4
    assert text.count("and 7 more in stats.json") == 1
    assert "and 3 more sets in stats.json" in text
    assert all(len(line) <= 100 for line in text.splitlines())
