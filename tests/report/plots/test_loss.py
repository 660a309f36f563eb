"""The loss over the steps."""

from kl3m_embeddings.report.plots.all_plots import PLOTS
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import log_row, write_run


def test_masked_tasks_alone_share_a_panel(tmp_path):
    run = read_run(write_run(tmp_path, rows=[log_row(step) for step in range(1, 90)]))
    with styled():
        assert len(PLOTS["loss_by_step"](run, 5).axes) == 1
        assert PLOTS["similarity_by_step"](run, 5) is None
        assert PLOTS["pair_metrics_by_step"](run, 5) is None
