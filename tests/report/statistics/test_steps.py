"""What steps cost, against a plain loop over the same rows."""

import numpy as np
import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.statistics.steps import FallbackStatistics, SkippedSteps
from tests.report.logs import write_lines, write_run


def test_speed_and_phases(masked_rows, masked_statistics):
    step_times = [row["step_time"] for row in masked_rows]
    tokens = sum(row["num_tokens"] for row in masked_rows)
    assert masked_statistics.speed.tokens_per_s == pytest.approx(tokens / sum(step_times), rel=1e-5)
    phases = {row.name: row.seconds for row in masked_statistics.phases}
    low, high = np.percentile(step_times, [25, 75], method="nearest")
    usual = [row for row in masked_rows if low <= row["step_time"] <= high]
    for name in ("sample", "forward", "backward", "optimizer"):
        expected = np.mean([row[f"{name}_time"] for row in usual])
        assert phases[name] == pytest.approx(expected, rel=1e-5)
    expected = np.mean([row["step_time"] for row in usual])
    assert sum(phases.values()) == pytest.approx(expected, rel=1e-5)
    assert sum(row.share for row in masked_statistics.phases) == pytest.approx(1)


def test_clipping_skips_and_padding(masked_rows, masked_statistics):
    norms = [row["grad_norm"] for row in masked_rows if row["grad_norm"] is not None]
    clipping = masked_statistics.clipping
    assert clipping.num_clipped == sum(norm > 1.5 for norm in norms)
    assert clipping.share == clipping.num_clipped / len(norms)
    assert clipping.grad_norm.p95 == pytest.approx(
        np.percentile(norms, 95, method="nearest"), rel=1e-5
    )
    expected = SkippedSteps(num_skipped=3, share=0.02, last_steps=[40, 41, 99])
    assert masked_statistics.skipped == expected
    samples = sum(row["num_samples"] for row in masked_rows)
    assert masked_statistics.fallbacks == FallbackStatistics(
        num_fallback=150.0, share=150 / samples
    )
    padding = np.mean([row["padding_fraction"] for row in masked_rows])
    assert masked_statistics.padding.mean == pytest.approx(padding, rel=1e-5)


def test_datasets(masked_rows, masked_statistics):
    assert len(masked_statistics.datasets) == 3
    for entry in masked_statistics.datasets:
        for field, key in (("samples_by_dataset", "samples"), ("tokens_by_dataset", "tokens")):
            mine = sum(row[field].get(entry.name, 0) for row in masked_rows)
            whole = sum(sum(row[field].values()) for row in masked_rows)
            assert getattr(entry, f"num_{key}") == mine
            assert getattr(entry, f"share_of_{key}") == pytest.approx(mine / whole)


def write_peaks(folder, rows, starts):
    """A run whose steps used half of a peak; rows and starts: what they say of peaks."""
    steps = [{"step": n, "mfu": 0.5, **row} for n, row in enumerate(rows, 1)]
    log = write_run(folder, rows=steps)
    lines = [{"step": step, "hardware": hardware} for step, hardware in starts]
    write_lines(folder / "run.jsonl", lines)
    return describe_run(read_run(log)).speed.mfu


def test_mfu_is_out_of_the_best_peak_whenever_it_was_measured(tmp_path):
    """Of a peak of 10, 20 and 40: all steps before and after are out of 40."""
    peaks = [{"peak_flops": peak} for peak in (10.0, 20.0, 40.0, 40.0)]
    mfu = write_peaks(tmp_path, peaks, [(0, {"device_name": "a", "peak_flops": 10.0})])
    assert (mfu.min, mfu.max, mfu.last) == (0.125, 0.5, 0.5)


def test_logs_without_peaks_have_those_of_their_starts_and_devices_their_own(tmp_path):
    """A start at step 2 is of the steps from 3 on."""
    starts = [
        (0, {"device_name": "a", "peak_flops": 10.0}),
        (2, {"device_name": "a", "peak_flops": 20.0}),
        (3, {"device_name": "b", "peak_flops": 80.0}),
    ]
    mfu = write_peaks(tmp_path, [{}, {}, {}, {}], starts)
    assert (mfu.min, mfu.median, mfu.last) == (0.25, 0.375, 0.5)


@pytest.mark.parametrize("starts", [[], [(0, None)], [(0, {"device_name": "a"})]], ids=str)
def test_mfu_is_as_logged_where_no_peak_is_known(tmp_path, starts):
    assert write_peaks(tmp_path, [{}, {}], starts).last == 0.5


def test_phases_longer_than_the_step_are_shares_of_their_sum(tmp_path):
    rows = [{"step": 1, "forward_time": 3.0, "backward_time": 1.0, "step_time": 2.0}]
    phases = describe_run(read_run(write_run(tmp_path, rows=rows))).phases
    assert [(row.name, row.share) for row in phases] == [
        ("forward", 0.75),
        ("backward", 0.25),
    ]
