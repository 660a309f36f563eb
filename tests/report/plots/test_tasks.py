"""Loss, singular values and embedding quality over the same steps."""

from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.plots.tasks import tasks_by_step
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import mixed_eval_row, mixed_row, write_run
from tests.report.measured import probe_eval_row, score_row, write_measured


def panels_of(log):
    with styled():
        figure = tasks_by_step(read_run(log), 5)
    return figure, {axes.get_ylabel(): axes for axes in figure.axes}


def test_every_task_and_the_mean_are_drawn(tmp_path):
    figure, panels = panels_of(write_run(tmp_path, evals=probe_eval_row))
    assert list(panels) == ["loss", "singular values", "score in evaluation"]
    rows = [probe_eval_row(step) for step in range(0, 60, 10)]
    drawn = [list(line.get_ydata()) for line in panels["score in evaluation"].lines]
    sts, nq = ([row[f"tasks/{name}"] for row in rows] for name in ("sts/spearman", "nq/ndcg_at_10"))
    assert drawn[:2] == [sts, nq]
    assert drawn[2] == [(left + right) / 2 for left, right in zip(sts, nq, strict=True)]
    told = "Spearman's correlation of largest / mean with the mean score: 1.0 over 6 evaluations."
    assert figure.texts[-1].get_text() == told


def test_scores_of_checkpoints_have_a_panel(tmp_path):
    write_measured(tmp_path, [score_row(step=step, score=step / 100) for step in (15, 30, 45)])
    figure, panels = panels_of(write_run(tmp_path))
    [line, *_] = panels["benchmark score"].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([15, 30, 45], [0.15, 0.3, 0.45])
    assert figure.texts[0].get_text() == "STS rose from 0.150 to 0.450"


def test_losses_that_cannot_be_averaged_are_not(tmp_path):
    rows = [mixed_row(step) for step in range(1, 61)]
    evals = {"a": probe_eval_row, "b": lambda step: mixed_eval_row(step) | {"tasks/x/ap": 0.5}}
    names = {}
    for name, make in evals.items():
        log = write_run(tmp_path / name, rows=rows if name == "b" else None, evals=make)
        names[name] = [text.get_text().split("  ")[1] for text in panels_of(log)[1]["loss"].texts]
    assert sorted(names["a"]) == ["held-out loss", "training loss"]
    assert names["b"] == ["held-out loss"]


def test_without_tasks_there_is_none(tmp_path):
    assert tasks_by_step(read_run(write_run(tmp_path)), 5) is None
