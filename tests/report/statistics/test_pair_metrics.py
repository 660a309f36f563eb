"""Metrics of held-out pairs, found among the fields of eval.jsonl."""

from dataclasses import replace

import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.pair_metrics import find_sets, metrics_of_sets, parsed
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import (
    CLASSIFICATION,
    RETRIEVAL,
    eval_row,
    mixed_eval_row,
    pair_eval_row,
    write_lines,
    write_run,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nq/ndcg@10", ("nq", "ndcg@10", None)),
        ("nq/ndcg@10/64", ("nq", "ndcg@10", 64)),
        ("a/b/ap/128", ("a/b", "ap", 128)),
        ("64/ap", ("64", "ap", None)),
        ("nq/num_queries", ("nq", "num_queries", None)),
        ("nq/f1_threshold", ("nq", "f1_threshold", None)),
        ("ap", None),
        ("ap/64", None),
        ("accuracy", None),
        ("svd_mean_ratio_1", None),
        ("nq/other", None),
        ("nq/ap/x", None),
        ("64", None),
        ("", None),
    ],
)
def test_names(name, expected):
    assert parsed(name) == expected


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path, evals=mixed_eval_row))


def test_sets_and_their_headlines(run):
    sets = find_sets(run.evals)
    assert [(one.name, one.headline.metric) for one in sets] == [
        ("nq", "ndcg@10"), ("quora", "ap"), ("sts", "spearman"),
    ]  # fmt: skip
    nq, quora, _ = sets
    assert nq.counts == {"num_queries": 1000, "num_documents": 5000}
    assert [field.dim for field in nq.of_headline()] == [None, 128, 64]
    others = [(field.metric, field.dim) for field in nq.others()]
    assert sorted(others) == sorted((metric, None) for metric in RETRIEVAL if metric != "ndcg@10")
    assert {field.metric for field in quora.others()} == set(CLASSIFICATION) - {"ap"}


def test_first_best_and_last_are_those_of_the_rows(run):
    rows = [mixed_eval_row(step) for step in range(0, 60, 10)]
    num_metrics = 0
    for one in metrics_of_sets(find_sets(run.evals)):
        for metric in one.metrics:
            suffix = "" if metric.dim is None else f"/{metric.dim}"
            values = [row[f"{one.name}/{metric.name}{suffix}"] for row in rows]
            assert (metric.first, metric.last) == (values[0], values[-1])
            if metric.name.endswith("threshold"):
                assert (metric.best, metric.best_step) == (None, None)
            else:
                assert metric.best == max(values)
                assert metric.best_step == 10 * values.index(max(values))
            num_metrics += 1
    assert num_metrics == 3 * (5 + 4 + 2) + 2


def test_a_value_that_was_not_finite_is_not_replaced_by_an_older_one(tmp_path):
    log = write_run(tmp_path)
    rows = [pair_eval_row(step) for step in (0, 10, 20)]
    rows[2] |= dict.fromkeys((key for key in rows[2] if key.startswith("nq/ndcg")), None)
    rows.append({"step": 30, "mean": 1.0})
    write_lines(tmp_path / "eval.jsonl", rows)
    nq, quora, _ = find_sets(read_run(log).evals)
    assert quora.headline.last == rows[2]["quora/ap"]  # the last evaluation had no pairs
    headline = nq.headline
    assert headline.last is None
    assert headline.first == rows[0]["nq/ndcg@10"]
    assert headline.best == (rows[1]["nq/ndcg@10"], 10)


def test_a_set_whose_metrics_never_were_finite_is_none(tmp_path):
    log = write_run(tmp_path)
    rows = [{"step": 0, "a/ndcg@10": None, "a/num_queries": 5, "b/ap": 0.5, "b/auc": None}]
    write_lines(tmp_path / "eval.jsonl", rows)
    assert [one.name for one in find_sets(read_run(log).evals)] == ["b"]


def test_values_of_a_step_that_was_evaluated_again_are_gone(tmp_path):
    log = write_run(tmp_path)
    rows = [{"step": 5, "a/ap": 0.5, "b/ap": 0.5}, {"step": 5, "b/ap": 0.25}]
    write_lines(tmp_path / "eval.jsonl", rows)
    [one] = find_sets(read_run(log).evals)
    assert (one.name, one.headline.best) == ("b", (0.25, 5))


def test_the_headline_is_the_next_best_where_it_never_was_finite(tmp_path):
    log = write_run(tmp_path)
    write_lines(tmp_path / "eval.jsonl", [{"step": 0, "a/ap": None, "a/accuracy": 0.5}])
    [one] = find_sets(read_run(log).evals)
    assert (one.headline.metric, one.others()) == ("accuracy", [])


def test_other_statistics_are_those_of_the_run_without_pairs(tmp_path):
    with_pairs = describe_run(read_run(write_run(tmp_path / "x", evals=mixed_eval_row)))
    without = describe_run(read_run(write_run(tmp_path / "y" / "x", evals=eval_row)))
    assert with_pairs.pair_metrics
    assert replace(with_pairs, pair_metrics=[]) == without
