"""How far a run is, and what its starts recorded."""

import numpy as np
import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.progress import UnusedLine
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import log_row, write_lines, write_run


def test_time_left(tmp_path):
    progress = describe_run(read_run(write_run(tmp_path))).progress
    times = [log_row(step)["step_time"] for step in range(1, 61)]
    assert progress.eta_s == pytest.approx(40 * np.mean(times), rel=1e-5)


def test_values_of_run_jsonl_are_made_safe(tmp_path):
    log = write_run(tmp_path, starts=False)
    write_lines(
        tmp_path / "run.jsonl", ['{"step": 0, "hardware": {"a": 1e999, "b": ["\\u001bx"]}}']
    )
    assert describe_run(read_run(log)).run.hardware == {"a": None, "b": ["?x"]}


def test_progress(masked_rows, masked_statistics):
    progress = masked_statistics.progress
    assert (progress.last_step, progress.total_steps, progress.share) == (150, 100, 1.5)
    assert progress.eta_s == 0
    assert progress.num_tokens == sum(row["num_tokens"] for row in masked_rows)
    assert progress.last_time == "2026-01-02 03:04:05"


def test_lines_that_could_not_be_used_are_counted(tmp_path):
    rows = [log_row(1), "{rubbish", log_row(2), log_row(3), log_row(2)]
    log = describe_run(read_run(write_run(tmp_path, rows=rows))).log
    assert (log.num_lines, log.num_bad_lines, log.num_overtaken_lines) == (5, 1, 2)
    assert log.bad_lines == [UnusedLine(line=2, reason="not JSON")]
    assert not log.last_line_incomplete
