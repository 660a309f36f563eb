"""Scores side by side: the right ones, the best marked, differences that matter marked."""

import io

from rich.console import Console

from kl3m_embeddings.report.read.benchmark import Benchmark
from kl3m_embeddings.report.read.benchmark_rows import read_score
from kl3m_embeddings.report.statistics.scores import (
    FailedTask,
    MeanScores,
    score_statistics,
    scores_of_runs,
)
from kl3m_embeddings.report.tables.scores import score_tables
from tests.report.measured import baseline_row, score_row, score_rows


def statistics(rows):
    return score_statistics([read_score(row) for row in rows])


def shown(rows, **limits):
    console = Console(file=io.StringIO(), width=100)
    for table in score_tables(statistics(rows), **limits):
        console.print(table)
    return console.file.getvalue()


def test_only_the_newest_whole_embeddings_count():
    found = statistics(score_rows())
    assert [model.name for model in found.models] == ["mine", "other"]
    scores = {task.name: [cell.score for cell in task.scores] for task in found.tasks}
    assert scores == {"NQ": [0.3, 0.31], "STS": [0.5, 0.4]}
    assert found.means == MeanScores(num_tasks=2, scores=[0.4, 0.355])
    assert found.failed == [FailedTask(task="Lost", model="mine", error="no such file")]


def test_nothing_measured():
    assert statistics([]) is None
    assert list(score_tables(None)) == []


def test_means_are_over_tasks_that_all_models_have():
    rows = [score_row("A"), score_row("B"), baseline_row("A"), score_row("C"), baseline_row("C")]
    assert statistics(rows).means.num_tasks == 2
    assert statistics(rows[:3]).means is None


def test_differences_are_marked_where_the_interval_excludes_0():
    text = shown(score_rows())
    assert "Difference to" in text
    assert "+0.1000 *" in text
    assert "-0.0100 *" not in text
    assert "0.0800 to 0.1200" in text
    assert "no such file" in text


def test_the_best_score_is_bold():
    table = next(score_tables(statistics(score_rows())))
    styles = [
        ["bold" in str([cell.spans, cell.style]) for cell in column.cells]
        for column in table.columns[1:]
    ]
    assert styles == [[False, True, True], [True, False, False]]


def test_many_models_and_tasks_are_counted():
    rows = [score_row(f"T{task}", f"m{model}") for task in range(12) for model in range(9)]
    text = shown(rows)
    assert "and 4 more in stats.json; and 5 models more in stats.json" in text
    assert "…" not in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "m8" in shown(rows, max_models=20)


def test_several_runs_have_their_models_by_the_names_of_the_runs():
    def benchmark(*rows):
        return Benchmark(scores=[read_score(row) for row in rows])

    first = benchmark(score_row(step=1), score_row(step=2), baseline_row())
    second = benchmark(score_row(model="a"), score_row(model="b"), baseline_row(score=0.7))
    scores = scores_of_runs([first, second], ["x", "y"])
    assert [(score.model, score.step, score.score) for score in scores] == [
        ("x", 2, 0.5), ("y: a", 60, 0.5), ("y: b", 60, 0.5), ("other", None, 0.7),
    ]  # fmt: skip


def test_a_run_that_another_started_from_keeps_its_own_scores():
    def benchmark(*rows):
        return Benchmark(scores=[read_score(row) for row in rows])

    first = benchmark(score_row(model="x", step=4), score_row("NQ", model="x", step=4))
    second = benchmark(score_row(model="y"), baseline_row(model="x", step=2, score=0.1))
    for runs in ([first, second], [second, first]):
        names = ["x", "y"] if runs[0] is first else ["y", "x"]
        found = score_statistics(scores_of_runs(runs, names))
        (place,) = [n for n, model in enumerate(found.models) if model.name == "x"]
        assert found.models[place].step == 4 and not found.models[place].baseline
        scores = {task.name: task.scores[place] for task in found.tasks}
        assert {name: cell.score for name, cell in scores.items()} == {"STS": 0.5, "NQ": 0.5}
        (place,) = [n for n, one in enumerate(found.models) if one.name == "x (baseline)"]
        assert found.models[place].step == 2
        assert {task.scores[place].score for task in found.tasks if task.scores[place]} == {0.1}
