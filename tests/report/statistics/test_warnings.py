"""Warnings: each for what it is for, and none of a healthy run."""

import random

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import eval_row, log_row, pair_eval_row, pair_row, write_run
from tests.report.measured import probe_eval_row, score_rows, spectrum_rows, write_measured


def warnings(log):
    return describe_run(read_run(log)).warnings


def test_a_healthy_run_has_none(tmp_path):
    assert warnings(write_run(tmp_path / "a", 300)) == []
    assert warnings(write_run(tmp_path / "b", 120, evals=probe_eval_row)) == []
    rows = [pair_row(step) for step in range(1, 200)]
    assert warnings(write_run(tmp_path / "c", rows=rows, evals=False)) == []


def test_noise_is_no_spike(tmp_path):
    draw = random.Random(1)
    rows = [log_row(step, loss=draw.lognormvariate(1, 0.4)) for step in range(3000)]
    assert warnings(write_run(tmp_path, rows=rows, evals=False)) == []


def test_spikes_and_skipped_steps(tmp_path):
    rows = [log_row(step, task="mlm") for step in range(1, 601)]
    for step in (400, 450):
        rows[step - 1]["loss"] = step / 10
    rows[420] |= {"loss": None, "skipped": True}
    skipped, spikes = warnings(write_run(tmp_path, rows=rows))
    assert skipped == (
        "1 step of 600 (0.2%) skipped, as loss or gradient was not finite; at step 421"
    )
    assert spikes.startswith("2 loss spikes at step 400, 450, the worst at step 450: 45.0 after")


def test_a_spike_is_one_of_its_task(tmp_path):
    levels = {"mlm": 8.0, "pairs": 0.1}
    rows = [
        log_row(step, task=task, loss=levels[task] + step % 7 / 100)
        for step, task in enumerate(["mlm", "mlm", "mlm", "pairs"] * 120)
    ]
    rows[-1]["loss"] = 5.0
    [spike] = warnings(write_run(tmp_path, rows=rows, evals=False))
    assert spike.startswith("1 loss spike at step 479: 5.00 after a median of 0.1")


def test_collapsing_weights(tmp_path):
    log = write_run(tmp_path, evals=lambda step: eval_row(step, svd_mean_ratio_1=1.5 + step / 10))
    [told] = warnings(log)
    assert told.startswith("The weights concentrate on few directions: the largest singular value")
    assert "6.50 times the mean one" in told


def test_collapsed_embeddings_and_failed_tasks(tmp_path):
    spectra = spectrum_rows()
    spectra[-1]["anisotropy"] = 0.97
    write_measured(tmp_path, score_rows(), spectra=spectra)
    assert warnings(write_run(tmp_path)) == [
        "The embeddings of mine at step 60 point the same way: the mean cosine of different texts "
        "is 0.970",
        "1 benchmark task failed: Lost",
    ]


def test_embeddings_that_were_alike_once_or_are_anothers_are_no_warning(tmp_path):
    folder = tmp_path / "law"
    rows = [
        {**spectrum_rows(model)[-1], "step": step, "anisotropy": anisotropy}
        for model, step, anisotropy in (("law", 0, 0.97), ("law", 60, 0.1), ("tax", 60, 0.97))
    ]
    write_measured(folder, [], spectra=rows)
    assert not any("point the same way" in text for text in warnings(write_run(folder)))


def test_stalled_evaluations(tmp_path):
    def evals(step):
        row = pair_eval_row(step) | probe_eval_row(step) | {"mean": 3 + abs(step - 10) / 10}
        return row | {"tasks/sts/spearman": 0.5, "quora/ap": 0.9 - step / 100}

    told = warnings(write_run(tmp_path, evals=evals))
    assert told == [
        "No better held-out loss in the last 3 of 6 evaluations: the best is 3.00 at step 10",
        "No better quora ap in the last 3 of 6 evaluations: the best is 0.900 at step 0",
        "No better sts spearman in the last 3 of 6 evaluations: the best is 0.500 at step 0",
    ]
    assert warnings(write_run(tmp_path, num_steps=50, evals=evals)) == []
