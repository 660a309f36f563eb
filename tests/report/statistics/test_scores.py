"""Scores side by side: the right ones, of the right models."""

from kl3m_embeddings.report.read.benchmark import Benchmark
from kl3m_embeddings.report.read.benchmark_rows import read_score
from kl3m_embeddings.report.statistics.scores import (
    FailedTask,
    MeanScores,
    score_statistics,
    scores_of_runs,
)
from tests.report.measured import baseline_row, score_row, score_rows


def statistics(rows):
    return score_statistics([read_score(row) for row in rows])


def test_only_the_newest_whole_embeddings_count():
    found = statistics(score_rows())
    assert [model.name for model in found.models] == ["mine", "other"]
    scores = {task.name: [cell.score for cell in task.scores] for task in found.tasks}
    assert scores == {"NQ": [0.3, 0.31], "STS": [0.5, 0.4]}
    assert found.means == MeanScores(num_tasks=2, scores=[0.4, 0.355])
    assert found.failed == [FailedTask(task="Lost", model="mine", error="no such file")]


def test_nothing_measured():
    assert statistics([]) is None


def test_every_step_may_be_a_model_of_its_own():
    rows = [score_row(step=step, score=step / 100) for step in (10, 20)]
    found = score_statistics([read_score(row) for row in rows], every_step=True)
    assert [(model.name, model.step) for model in found.models] == [("mine", 10), ("mine", 20)]
    assert [cell.score for cell in found.tasks[0].scores] == [0.1, 0.2]


def test_means_are_over_tasks_that_all_models_have():
    rows = [score_row("A"), score_row("B"), baseline_row("A"), score_row("C"), baseline_row("C")]
    assert statistics(rows).means.num_tasks == 2
    assert statistics(rows[:3]).means is None


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
