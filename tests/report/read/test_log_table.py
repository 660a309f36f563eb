"""The log as columns: what a plain reading of the same lines gives."""

import json
from collections import Counter

import pytest

from kl3m_embeddings.errors import DataError
from kl3m_embeddings.report.read import jsonl
from kl3m_embeddings.report.read.log_table import read_log
from tests.report.logs import PUBLISHED_STEP, log_row, pair_row, write_lines


def test_counts_by_dataset_equal_a_plain_reading(tmp_path, monkeypatch):
    rows = [log_row(step) for step in range(200)]
    rows[150]["samples_by_dataset"] = {"late": 3, 'a "quoted", name': 2, "": 1}
    rows[151]["samples_by_dataset"] = {}
    rows[152]["samples_by_dataset"] = None
    path = write_lines(tmp_path / "log.jsonl", rows)
    expected = Counter()
    for row in rows:
        expected.update(row["samples_by_dataset"] or {})
    for block_bytes in (500, 10**6):
        monkeypatch.setattr(jsonl, "BLOCK_BYTES", block_bytes)
        table = read_log(path).samples_by_dataset
        assert dict(table.group_by("name").sum().select("name", "count").rows()) == expected
        late = table.filter(table["name"] == "late")
        assert late.rows() == [(151, "late", 3.0)]


def test_steps_keep_their_values(tmp_path):
    rows = [log_row(step) for step in range(30)]
    steps = read_log(write_lines(tmp_path / "log.jsonl", rows)).steps
    assert steps["loss"].to_list() == [row["loss"] for row in rows]
    assert steps["task"].to_list() == [row["task"] for row in rows]
    assert steps["grad_norm"].to_list() == pytest.approx([row["grad_norm"] for row in rows])
    assert str(steps["time"][0]) == "2026-01-02 03:04:05"


def test_fields_of_one_kind_of_tasks_are_missing_in_the_others(tmp_path):
    rows = [log_row(1), pair_row(2), pair_row(3, task="ssd")]
    log = read_log(write_lines(tmp_path / "log.jsonl", rows))
    assert log.steps["num_pairs"].to_list() == [None, 64, 64]
    assert log.steps["temperature"].null_count() == 2
    for field in ("positive", "diff"):
        name = f"mean_sim_{field}"
        expected = [row.get(name) for row in rows]
        assert log.steps[name].to_list() == [
            None if value is None else pytest.approx(value) for value in expected
        ]


def test_overtaken_steps_are_dropped_and_reported(tmp_path):
    steps = [1, 2, 3, 4, 5, 3, 4, 5, 6, 6, 7]
    rows = [log_row(step, loss=float(line)) for line, step in enumerate(steps, start=1)]
    log = read_log(write_lines(tmp_path / "log.jsonl", rows))
    assert log.steps["step"].to_list() == [1, 2, 3, 4, 5, 6, 7]
    assert log.steps["loss"].to_list() == [1, 2, 6, 7, 8, 10, 11]
    assert log.overtaken == (3, 4, 5, 9)
    assert set(log.samples_by_dataset["line"]) == {1, 2, 6, 7, 8, 10, 11}
    assert log.notes() == [
        "log.jsonl: steps repeat or go backwards: 4 overtaken lines left out, from line 3 to 9"
    ]


def test_skipped_is_what_the_log_says_or_else_a_missing_loss(tmp_path):
    rows = [log_row(1, loss=None), log_row(2, loss=None, skipped=True), log_row(3)]
    del rows[0]["skipped"]
    log = read_log(write_lines(tmp_path / "log.jsonl", rows))
    assert log.steps["skipped"].to_list() == [True, True, False]
    log = read_log(write_lines(tmp_path / "log.jsonl", [{"step": 1}, {"step": 2}]))
    assert log.steps["skipped"].to_list() == [False, False]


def test_numbers_that_are_not_finite_are_missing(tmp_path):
    rows = [json.dumps(log_row(1)), '{"step": 2, "loss": NaN, "grad_norm": Infinity, "lr": 1e999}']
    log = read_log(write_lines(tmp_path / "log.jsonl", rows))
    assert log.lines.bad == []
    assert log.steps.select("loss", "grad_norm", "lr").rows()[1] == (None, None, None)


def test_published_line(tmp_path):
    log = read_log(write_lines(tmp_path / "log.jsonl", [PUBLISHED_STEP]))
    assert log.steps.select("step", "loss", "task").rows() == [(2600, 8.297395706176758, "mlm")]
    assert not log.has("optimizer_time")
    assert log.has("loss", "lr")


def test_empty_log_is_no_error_but_one_of_rubbish_is(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [])
    assert read_log(path).steps.is_empty()
    write_lines(path, ["rubbish", "more"])
    with pytest.raises(DataError, match=r"log\.jsonl:1: not JSON; no line of 2 is") as error:
        read_log(path)
    assert error.value.exit_code == 65
