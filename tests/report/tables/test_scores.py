"""Scores in a terminal of 80 characters: whole, whatever models and tasks are called."""

import io
from itertools import chain

import pytest
from rich.console import Console

from kl3m_embeddings.report.read.benchmark_rows import read_score
from kl3m_embeddings.report.statistics.scores import score_statistics
from kl3m_embeddings.report.tables.scores import bound, score_tables
from tests.report.measured import baseline_row, compared_row, score_row, score_rows


def statistics(rows, **options):
    return score_statistics([read_score(row) for row in rows], **options)


def shown(rows, width=80, *, every_step=False, **limits):
    console = Console(file=io.StringIO(), width=width)
    for table in score_tables(statistics(rows, every_step=every_step), **limits):
        console.print(table)
    return console.file.getvalue()


def long_row(step, score, **changes):
    names = {"task": "a-very-long-name-of-a-task-really", "model": "a-model-with-a-long-name"}
    return score_row(
        **names, score=score, step=step, metric="cosine_spearman", low=score - 0.25, **changes
    )


def test_nothing_measured():
    assert list(score_tables(None)) == []


def test_all_checkpoints_have_a_column_with_whole_numbers_and_intervals():
    rows = [long_row(1000 * index, index / 10) for index in range(1, 8)]
    text = shown(rows, every_step=True, max_models=None, max_tasks=None)
    words = text.split()
    for index in range(1, 8):
        assert words.count(f"{index / 10:.4f}") == 1
        assert f"step {index},000" in text
    for interval in ("-.150 to .150", "-.050 to .250", ".050 to .350", ".450 to .750"):
        assert f" {interval}" in text
    assert "cosine_spearman" in words
    assert max(map(len, text.splitlines())) <= 80
    assert "a-model" not in text.splitlines()[-1]
    newest = shown(rows, max_models=None)
    assert "step 7,000" in newest and "step 6,000" not in newest


def test_many_models_lie_beside_each_other_where_there_is_room():
    rows = [long_row(step, step / 10) for step in range(1, 8)]
    tables = score_tables(statistics(rows, every_step=True), max_models=None, width=None)
    [table] = list(tables)
    assert len(table.columns) == 8


@pytest.mark.parametrize("difference", [0.1, -0.5])
def test_differences_stay_whole_too(difference):
    rows = [
        compared_row("a-task-with-a-long-name" * 2, 0.5, difference, model=f"model-{index}" * 4)
        for index in range(4)
    ]
    text = shown([*rows, baseline_row(rows[0]["task"])])
    low, high = (bound(difference + end) for end in (-0.02, 0.02))
    assert text.partition("Difference to other")[2].count(f"{low} to {high}") == 4
    assert text.count(f"{difference:+.4f} *") == 4
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_what_has_no_score_is_a_dash_and_sizes_are_left_out():
    rows = [
        score_row(score=0.5, step=1, low=None),
        score_row("Other", score=0.25, step=2),
        score_row(score=0.7, step=1, dim=4),
    ]
    text = shown(rows, every_step=True)
    assert "0.5000" in text and "0.7000" not in text and "None" not in text
    line = next(line for line in text.splitlines() if line.startswith("STS"))
    assert line.split() == ["STS", "0.5000", "-"]
    assert "ndcg_at_10" in text and ".450 to" not in text


def test_differences_are_marked_where_the_interval_excludes_0():
    text = shown(score_rows())
    assert "+0.1000 *" in text
    assert "-0.0100 *" not in text
    assert ".080 to .120" in text
    assert "no such file" in text
    styles = [
        {str(span.style) for span in cell.spans if span.start == 0}
        for cell in chain(*(column.cells for column in list(tables_of(score_rows()))[1].columns))
        if cell.plain.startswith(("+", "-0"))
    ]
    assert styles == [set(), {"bold green"}]


def tables_of(rows):
    return score_tables(statistics(rows))


def test_the_best_score_is_bold():
    table = next(tables_of(score_rows()))
    styles = [
        ["bold" in str([cell.spans, cell.style]) for cell in column.cells]
        for column in table.columns[1:]
    ]
    assert styles == [[False, True, True], [True, False, False]]
    [alone] = tables_of([score_row()])
    assert "bold" not in str(next(alone.columns[1].cells).spans)


def test_many_models_and_tasks_are_counted():
    rows = [score_row(f"T{task}", f"m{model}") for task in range(12) for model in range(9)]
    text = shown(rows)
    assert "and 4 more in stats.json; and 5 models more in stats.json" in text
    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "m8" in shown(rows, max_models=20)
    all_of_them = shown(rows, max_models=None, max_tasks=None)
    assert "T11" in all_of_them and "m8" in all_of_them and "more" not in all_of_them


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4974, ".497"), (-0.05, "-.050"), (0.9996, "1.000"), (-0.0001, ".000"), (35.25, "35.25")],
)
def test_bounds(value, text):
    assert bound(value) == text


def test_names_are_text():
    name = "[red]x[/red]\x1b[31m"
    text = shown([compared_row(name, 0.5, 0.1, model=name), baseline_row(name, name + "2")])
    assert "\x1b" not in text
    assert "[red]x[/red]" in text


def test_names_fold_into_the_room_that_intervals_leave():
    rows = [long_row(step, 0.1) for step in range(1, 7)]
    wide, narrow = score_tables(statistics(rows, every_step=True), max_models=None)
    # of 80 characters 16 are the task's, and 3 lie between two columns
    assert [column.width for column in wide.columns] == [None, *[len("-.150 to .150")] * 4]
    longest = len("a-model-with-a-long-name")
    assert [column.width for column in narrow.columns] == [None, longest, longest]
