"""Quality along the run, and whether the singular values foretell it."""

import polars as pl
import pytest
from scipy.stats import spearmanr

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.pair_metrics import find_sets
from kl3m_embeddings.report.statistics.quality import (
    mean_quality,
    probe_series,
    rank_correlation,
    score_series,
    svd_and_quality,
)
from tests.report.logs import eval_row, write_run
from tests.report.measured import probe_eval_row, score_row, write_measured


def test_probes_are_found_by_the_metric_to_judge_by(tmp_path):
    run = read_run(write_run(tmp_path, evals=probe_eval_row))
    series = probe_series(run.evals)
    assert list(series) == ["sts spearman", "nq ndcg_at_10"]
    assert series["sts spearman"]["step"].to_list() == [0, 10, 20, 30, 40, 50]
    assert find_sets(run.evals) == []  # spearman is a metric of held-out pairs, too


def test_the_mean_is_over_tasks_that_are_always_measured():
    whole = pl.DataFrame({"step": [1, 2], "value": [0.2, 0.4]})
    part = pl.DataFrame({"step": [2], "value": [1.0]})
    mean, num_tasks = mean_quality({"a": whole, "b": whole.with_columns(value=0.8), "c": part})
    assert (mean["value"].to_list(), num_tasks) == ([0.5, pytest.approx(0.6)], 2)


def test_rank_correlation_is_scipys():
    left, right = [3.0, 1.0, 1.0, 5.0, 4.0, 9.0], [1.0, 2.0, 2.0, 2.0, 0.5, 7.0]
    mine = rank_correlation(pl.Series(left), pl.Series(right))
    assert mine == pytest.approx(spearmanr(left, right).statistic)
    assert rank_correlation(pl.Series(left), pl.Series([1.0] * 6)) is None


@pytest.mark.parametrize(
    ("num_steps", "sign", "told"),
    [
        (40, 1, "Too few evaluations (4)"),
        (60, 1, "is 1.0 over 6 evaluations: the higher the ratio, the better"),
        (60, -1, "is -1.0 over 6 evaluations: the higher the ratio, the worse"),
        (60, 0, "one of the two did not change in 6 evaluations"),
    ],
)
def test_the_sentence(tmp_path, num_steps, sign, told):
    def evals(step):
        row = probe_eval_row(step)
        return row | {"tasks/sts/spearman": sign * step / 100, "tasks/nq/ndcg_at_10": 0.0}

    run = read_run(write_run(tmp_path, num_steps, evals=evals))
    assert told in svd_and_quality(run).sentence


def test_no_relation(tmp_path):
    values = iter([0.3, 0.1, 0.4, 0.2, 0.5, 0.15])
    log = write_run(tmp_path, evals=lambda step: eval_row(step, **{"tasks/a/ap": next(values)}))
    assert "does not foretell quality here" in svd_and_quality(read_run(log)).sentence


def test_scores_of_checkpoints_stand_in_for_probes(tmp_path):
    write_measured(tmp_path, [score_row(step=step, score=step / 100) for step in (15, 30, 45)])
    run = read_run(write_run(tmp_path))
    assert score_series(run)["STS"]["step"].to_list() == [15, 30, 45]
    assert svd_and_quality(run).num_evals == 3
    assert svd_and_quality(read_run(write_run(tmp_path / "x"))) is None


def test_other_models_scored_beside_a_run_are_not_its_curve(tmp_path):
    folder = tmp_path / "law"
    own = [score_row(model="law", step=step, score=step / 100) for step in (10, 20, 30)]
    others = [score_row(model="tax", step=step, score=0.9) for step in (10, 25)]
    write_measured(folder, [*own, *others])
    series = score_series(read_run(write_run(folder)))
    assert series["STS"]["value"].to_list() == [0.1, 0.2, 0.3]
    assert series["STS"]["step"].to_list() == [10, 20, 30]
    moved = folder.rename(tmp_path / "moved")  # two models, none of the run's name
    assert score_series(read_run(moved)) == {}
