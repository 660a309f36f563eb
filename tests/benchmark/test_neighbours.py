"""What a model finds for a query, to read: the same queries for each, the best first."""

import json
import math

import pytest

from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import WRITERS, ranking_rows


@pytest.fixture
def task(bench, tmp_path):
    task = bench.local_tasks.local_task(read_local_task(WRITERS["Retrieval"](tmp_path / "find")))
    task.load_data()
    return task


def found(bench, task, predicted):
    return bench.neighbours.neighbours_of(task, predicted, "test", "default")


def predictions(scores):
    """The same scores of the documents for each of the nine queries."""
    return {f"q{number}": dict(scores) for number in range(9)}


def test_of_some_queries_come_the_best_documents_with_their_texts(bench, task):
    documents, queries, grades = ranking_rows()
    titles = {row["_id"]: f"{row['title']} {row['text']}".strip() for row in documents}
    asked = {row["_id"]: row["text"] for row in queries}
    relevant = {(query, document) for query, document, grade in grades if grade}
    predicted = predictions({"d4": 0.5, "d1": 0.9, "d7": -0.2, "d2": 0.7, "d0": 0.1})
    rows = found(bench, task, predicted)
    names = ["q0", "q1", "q2", "q3", "q4"]
    assert [row["query"] for row in rows] == [asked[name] for name in names]
    for name, row in zip(names, rows, strict=True):
        assert row["neighbours"] == [
            {"text": titles[one], "score": score, "relevant": (name, one) in relevant}
            for one, score in (("d1", 0.9), ("d2", 0.7), ("d4", 0.5))
        ]
    assert {one["relevant"] for row in rows for one in row["neighbours"]} == {True, False}


def test_queries_that_were_not_asked_are_not_shown(bench, task):
    predicted = {"q7": {"d1": 0.5}, "q2": {"d2": 0.5}, "unknown": {"d1": 0.5}}
    asked = {row["_id"]: row["text"] for row in ranking_rows()[1]}
    rows = found(bench, task, predicted)
    assert [row["query"] for row in rows] == [asked["q2"], asked["q7"]]


def test_long_texts_are_cut_and_scores_that_are_no_numbers_are_null(bench, task, monkeypatch):
    monkeypatch.setattr(bench.neighbours, "MAX_CHARS", 3)
    rows = found(bench, task, predictions({"d1": math.inf}))
    json.dumps(rows, allow_nan=False)
    assert {one["score"] for row in rows for one in row["neighbours"]} == {None}
    assert {len(one["text"]) for row in rows for one in row["neighbours"]} == {3}


def test_other_tasks_have_none(bench, tmp_path):
    task = bench.local_tasks.local_task(read_local_task(WRITERS["STS"](tmp_path / "alike")))
    assert found(bench, task, predictions({"d1": 1.0})) == []


def test_rows_of_the_same_model_step_and_task_are_replaced(bench, tmp_path):
    row = {"model": "a", "step": 1, "task": "t", "query": "old"}
    bench.neighbours.write_neighbours(tmp_path, [row, row | {"task": "u"}])
    bench.neighbours.write_neighbours(tmp_path, [row | {"query": "new"}])
    lines = (tmp_path / "neighbours.jsonl").read_text().splitlines()
    assert [(one["task"], one["query"]) for one in map(json.loads, lines)] == [
        ("u", "old"),
        ("t", "new"),
    ]
