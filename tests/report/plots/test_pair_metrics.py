"""Held-out pairs over the steps."""

import pytest

from kl3m_embeddings.report.plots.pair_metrics import pair_metrics_by_step
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import pair_eval_row, pair_row, write_run


@pytest.fixture
def figure(tmp_path):
    rows = [pair_row(step) for step in range(1, 61)]
    with styled():
        return pair_metrics_by_step(
            read_run(write_run(tmp_path, rows=rows, evals=pair_eval_row)), 1
        )


def test_a_panel_a_set_with_the_values_of_its_metrics(figure):
    assert [axes.get_ylabel() for axes in figure.axes] == ["nq", "quora", "sts"]
    evals = [pair_eval_row(step) for step in range(0, 60, 10)]
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    for name in ("ndcg@10", "ndcg@10/128", "ndcg@10/64", "recall@10"):
        assert [row[f"nq/{name}"] for row in evals] in drawn
    assert [row["nq/recall@10/64"] for row in evals] not in drawn


def test_the_best_value_is_marked(figure):
    best = max((pair_eval_row(step)["quora/ap"], step) for step in range(0, 60, 10))
    [mark] = [line for line in figure.axes[1].lines if line.get_label() == "best"]
    assert (mark.get_ydata()[0], mark.get_xdata()[0]) == best


def test_labels_name_metrics_and_sizes(figure):
    labels = {text.get_text().split("  ")[-1] for text in figure.axes[0].texts}
    assert {"ndcg@10", "at 128", "at 64", "mrr@10"} <= labels


def test_without_sets_it_is_said_or_passed_over(tmp_path):
    masked = read_run(write_run(tmp_path / "a"))
    pairs = read_run(write_run(tmp_path / "b", rows=[pair_row(1)]))
    assert pair_metrics_by_step(masked, 1) is None
    assert pair_metrics_by_step(pairs, 1) == "eval.jsonl has no metric of held-out pairs"
