"""Mean cosines of pairs over the steps."""

import pytest

from kl3m_embeddings.report.plots.similarity import similarity_by_step
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import log_row, pair_row, values, write_run


def draw(folder, rows):
    with styled():
        return similarity_by_step(read_run(write_run(folder, rows=rows)), 5)


def test_a_panel_a_task_and_one_of_learnt_temperatures(mixed_run, mixed_rows):
    with styled():
        figure = similarity_by_step(mixed_run, 10)
    panels = {axes.get_ylabel(): axes for axes in figure.axes}
    assert list(panels) == [*mixed_run.embedding_tasks, "temperature"]
    drawn = [list(line.get_ydata()) for line in panels["ssd"].lines]
    for kind in ("same", "similar", "diff"):
        known = values(mixed_rows, "ssd", f"mean_sim_{kind}")
        assert any(one == pytest.approx(known) for one in drawn if len(one) == len(known))
    labels = {text.get_text().split()[0] for text in panels["pairs"].texts}
    assert labels == {"positive", "negative"}


def test_a_temperature_that_is_not_learnt_has_no_panel(tmp_path):
    rows = [pair_row(step, temperature=0.05) for step in range(1, 9)]
    assert [axes.get_ylabel() for axes in draw(tmp_path, rows).axes] == ["pairs"]


def test_the_title_has_how_far_right_and_wrong_pairs_are_apart(tmp_path):
    cosines = [(0.5, 0.375), (0.875, 0.125)]
    rows = [
        pair_row(step, mean_sim_positive=right, mean_sim_negative=wrong)
        for step, (right, wrong) in enumerate(cosines, start=1)
    ]
    with styled():
        figure = similarity_by_step(read_run(write_run(tmp_path, rows=rows)), 1)
    assert figure.texts[0].get_text() == (
        "pairs: positive and negative pairs are 0.750 apart, 0.125 at first"
    )


def test_without_the_fields_it_is_said_or_passed_over(tmp_path):
    rows = [{"step": 1, "task": "pairs", "num_pairs": 3}]
    assert draw(tmp_path / "a", rows) == "the log has no mean_sim_ field"
    assert draw(tmp_path / "b", [log_row(1)]) is None
