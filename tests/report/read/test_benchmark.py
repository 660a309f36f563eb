"""The benchmark's files: what may be missing, bad, torn or measured twice."""

from kl3m_embeddings.report.read.benchmark import newest, read_benchmark, unique_task_names
from kl3m_embeddings.report.read.benchmark_rows import read_score
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import write_run
from tests.report.measured import (
    baseline_row,
    query_row,
    score_row,
    score_rows,
    write_measured,
)


def test_without_files_there_is_nothing_to_say(tmp_path):
    benchmark = read_benchmark(tmp_path)
    assert (benchmark.scores, benchmark.queries, benchmark.spectra, benchmark.notes) == (
        [], [], [], [],
    )  # fmt: skip


def test_bad_lines_are_counted_and_a_torn_one_is_normal(tmp_path):
    rows = ["{", "3", {"model": 3, "task": "x"}, {"model": "m"}, *score_rows()]
    write_measured(tmp_path, scores=rows, queries=[{"model": "m", "query": "q"}, query_row()])
    with (tmp_path / "spectra.jsonl").open("a") as file:
        file.write('{"kind": "other"}\n{"model": "m", "kind": "layer"}\n{"mod')
    write_run(tmp_path)
    run = read_run(tmp_path)
    assert (len(run.benchmark.queries), len(run.benchmark.spectra)) == (1, 3)
    assert len(run.benchmark.scores) == len(score_rows())
    assert run.notes == [
        "scores.jsonl: 4 bad lines left out: line 1 (not JSON), line 2 (not an object), "
        "line 3 (no usable model), line 4 (no usable task)",
        "neighbours.jsonl: 1 bad line left out: line 1 (no usable neighbours)",
        "spectra.jsonl: 2 bad lines left out: line 4 (no usable kind), line 5 (no usable layer)",
        "spectra.jsonl: last line incomplete, ignored (normal while training)",
    ]


def test_what_was_measured_again_counts_as_measured_last(tmp_path):
    write_measured(tmp_path, scores=[score_row(score=0.1), baseline_row(), score_row(score=0.2)])
    assert [row.score for row in read_benchmark(tmp_path).scores] == [0.2, 0.4]


def test_the_newest_step_of_each_model():
    rows = [score_row(step=9), score_row(step=10), baseline_row(), baseline_row(model="z", step=1)]
    scores = [read_score(row) for row in rows]
    assert [(row.model, row.step) for row in newest(scores)] == [
        ("mine", 10), ("other", None), ("z", 1),
    ]  # fmt: skip


def test_names_of_tasks_say_what_tells_them_apart():
    rows = [
        score_row("A"),
        score_row("B", subset="de"),
        score_row("B", subset="en", metric="map"),
        score_row("C", split="dev"),
        score_row("C"),
    ]
    names = unique_task_names([read_score(row) for row in rows])
    assert list(names.values()) == ["A", "B de ndcg_at_10", "B en map", "C dev", "C test"]
