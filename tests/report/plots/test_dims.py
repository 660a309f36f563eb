"""The score against the size of the embedding."""

import pytest

from kl3m_embeddings.report.plots.dims import quality_by_dim, tasks_with_sizes
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.benchmark_rows import read_score
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import write_run
from tests.report.measured import baseline_row, score_row, write_measured


@pytest.fixture
def figure(tmp_path):
    rows = [score_row(score=0.8), score_row(score=0.4, dim=16), score_row(score=0.6, dim=32)]
    rows += [score_row(score=0.2, dim=16, control=True), score_row(score=0.7, dtype="int8")]
    write_measured(tmp_path, [*rows, baseline_row(score=0.5), score_row("Alone")])
    with styled():
        return quality_by_dim(read_run(write_run(tmp_path)), 1)


def test_a_line_of_first_dimensions_one_of_random_ones_and_marks(figure):
    [axes] = figure.axes
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines[:5]]
    assert drawn == [
        ([16, 32, 64], [0.4, 0.6, 0.8]), ([16], [0.2]), ([64], [0.7]), ([64], [0.5]), ([], []),
    ]  # fmt: skip
    assert axes.lines[1].is_dashed()
    assert axes.get_ylabel() == "STS"


def test_the_title_has_what_the_smallest_size_keeps(figure):
    assert figure.texts[0].get_text() == "The first 16 dimensions keep 50% of the score"


def test_the_legend_has_what_is_drawn(figure):
    entries = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert entries == ["first dimensions", "drawn at random", "int8"]


def test_tasks_of_one_size_have_no_panel():
    rows = [score_row("A"), score_row("A", dim=8), score_row("B"), baseline_row("B")]
    assert list(tasks_with_sizes([read_score(row) for row in rows])) == ["A"]
