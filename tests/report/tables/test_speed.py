"""Speed and health as rows."""

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.output import as_text
from kl3m_embeddings.report.tables.run_tables import render
from tests.report.logs import (
    log_row,
    write_lines,
    write_run,
)


def shown(log):
    return as_text(render(describe_run(read_run(log))))


def test_evaluations_cost_a_share_of_the_steps_time(tmp_path):
    log = write_run(tmp_path, rows=[log_row(step, total_time=0.5 * step) for step in range(1, 41)])
    times = {"eval_time": 1.0, "text_time": 0.6, "tasks_time": 0.1}
    write_lines(tmp_path / "eval.jsonl", [{"step": step, **times} for step in (20, 40)])
    assert " 2 s, 10% of the time of the steps (text 6.0%, tasks 1.0%)" in shown(log)


def test_a_use_of_the_device_that_cannot_be_is_marked(tmp_path):
    for number, (mfu, expected) in enumerate([(0.5, "(MFU)  50% "), (1.25, "125%: cannot be")]):
        log = write_run(tmp_path / str(number), rows=[log_row(1) | {"mfu": mfu}])
        text = shown(log)
        assert expected in text
        assert ("cannot be" in text) == (mfu > 1)
