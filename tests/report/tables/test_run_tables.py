"""The tables: complete, and safe to print."""

import io
from pathlib import Path

from rich.console import Console

from kl3m_embeddings.report.names import number
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.output import as_text
from kl3m_embeddings.report.tables.run_tables import render
from tests.report.logs import (
    log_row,
    write_lines,
    write_run,
)

GOLDEN = Path(__file__).with_name("masked_run_stats.txt")


def shown(log):
    return as_text(render(describe_run(read_run(log))))


def test_every_section_is_there(tmp_path):
    text = shown(write_run(tmp_path))
    for title in (
        "Run", "Progress", "Loss", "Loss by window", "Loss by task", "Loss by reduced dimension",
        "Evaluation (6 so far)", "Speed", "Phases of a usual step", "Health", "Data mix",
    ):  # fmt: skip
        assert f"\n{title} " in text, title
    assert "60 of 100 (60%)" in text
    assert "svd_mean_ratio_1" in text


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


def test_a_run_of_masked_tasks_shows_what_it_showed_before_there_were_others(tmp_path):
    assert shown(write_run(tmp_path / "x", num_steps=300)) == GOLDEN.read_text(encoding="utf-8")


def test_no_number_is_cut_in_80_characters(tmp_path):
    rows = [log_row(step, task=f"a-long-task-{step % 3}") for step in range(1, 201)]
    statistics = describe_run(read_run(write_run(tmp_path, 200, rows=rows)))
    console = Console(file=io.StringIO(), width=80)
    for renderable in render(statistics):
        console.print(renderable)
    text = console.file.getvalue()
    assert "…" not in text
    for row in statistics.loss_by_task:
        assert f" {number(row.last_p5)} " in text and f" {number(row.last_p95)} " in text
