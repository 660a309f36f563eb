"""Ratios of singular values over the steps."""

from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.plots.svd import svd_metrics
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import eval_row, write_run


def test_a_line_for_each_ratio(tmp_path):
    log = write_run(tmp_path, evals=lambda step: eval_row(step, svd_other=2.0))
    with styled():
        figure = svd_metrics(read_run(log), 1)
    [axes] = figure.axes
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert [1.5, 1.6, 1.7, 1.8, 1.9, 2.0] in drawn
    assert [1.6] * 6 in drawn and [2.0] * 6 in drawn
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["largest / median  1.60", "largest / mean  2.00", "other  2.00"]
    title = "The largest singular value over the mean rose from 1.50 to 2.00"
    assert figure.texts[0].get_text() == title


def test_evaluations_without_ratios_are_told(tmp_path):
    run = read_run(write_run(tmp_path, evals=lambda step: {"step": step, "mean": 1.0}))
    assert svd_metrics(run, 1) == "eval.jsonl is missing, or has no svd_ field"
