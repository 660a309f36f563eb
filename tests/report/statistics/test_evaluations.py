"""Evaluations: the first, the best and the last."""

import polars as pl

from kl3m_embeddings.report.statistics.evaluations import eval_statistics


def test_the_best_has_the_lowest_mean():
    evals = pl.DataFrame(
        {"step": [0, 10, 20, 30], "mean": [9.0, 3.0, 4.0, None], "eval_time": [1.0, 2.0, 3.0, None]}
    )
    found = eval_statistics(evals)
    assert found.num_evals == 4
    assert (found.best_mean, found.best_step) == (3.0, 10)
    assert {name: row["step"] for name, row in found.shown.items()} == {
        "first": 0, "best": 10, "last": 30,
    }  # fmt: skip
    assert found.times == {"eval": 6.0}


def test_without_a_mean_none_is_best():
    found = eval_statistics(pl.DataFrame({"step": [5], "svd_mean_ratio_1": [1.5]}))
    assert (found.best, found.best_mean, found.best_step) == (None, None, None)
    assert list(found.shown) == ["first", "last"]
    assert found.last == {"step": 5, "svd_mean_ratio_1": 1.5}
    assert found.times == {}


def test_no_evaluation():
    assert eval_statistics(pl.DataFrame({"step": []})) is None
