"""A run from its folder: what may be missing, and what is said about it."""

import json

import pytest

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import (
    PUBLISHED_EVAL,
    PUBLISHED_STEP,
    eval_row,
    pair_row,
    write_lines,
    write_run,
)


def test_folder_and_log_are_the_same_run(tmp_path):
    log = write_run(tmp_path / "x")
    by_log, by_folder = read_run(log), read_run(log.parent)
    assert by_log.name == by_folder.name == "x"
    assert by_log.steps.equals(by_folder.steps)
    assert by_log.notes == []
    assert (by_log.resumes, by_log.total_steps, by_log.num_done) == ([30], 100, 60)


def test_published_files(tmp_path):
    log = write_lines(tmp_path / "log.jsonl", [PUBLISHED_STEP])
    write_lines(tmp_path / "eval.jsonl", [PUBLISHED_EVAL])
    (tmp_path / "training.json").write_text('{"optimizer": {"total_steps": 200000}}')
    run = read_run(log)
    assert run.evals["mean"].to_list() == [6.590894358307123]
    assert run.total_steps == 200000
    assert run.notes == [
        "log.jsonl: no optimizer_time, no grad_norm in it",
        "no run.jsonl beside the log",
    ]


def test_evaluations_in_any_order_with_any_fields(tmp_path):
    log = write_run(tmp_path, evals=False)
    rows = [eval_row(10), eval_row(0), eval_row(10, mean=3.0, ndcg=0.5), '{"step": 20, "me']
    write_lines(
        tmp_path / "eval.jsonl", [*rows, {"step": 30, "mean": None, "name": "x", "b": True}]
    )
    run = read_run(log)
    assert run.evals["step"].to_list() == [0, 10, 30]
    assert run.evals["mean"].to_list() == [9.0, 3.0, None]
    assert run.evals["ndcg"].to_list() == [None, 0.5, None]
    assert not {"name", "b"} & set(run.evals.columns)
    assert run.notes == ["eval.jsonl: 1 bad line left out: line 4 (not JSON)"]


def test_the_last_start_knows_the_total_best(tmp_path):
    log = write_run(tmp_path, starts=False)
    (tmp_path / "training.json").write_text(json.dumps({"optimizer": {"total_steps": 5}}))
    starts = [{"step": 0, "training": {"optimizer": {"total_steps": 7}}}, {"step": 3}]
    write_lines(tmp_path / "run.jsonl", starts)
    assert read_run(log).total_steps == 7
    (tmp_path / "run.jsonl").unlink()
    assert read_run(log).total_steps == 5
    (tmp_path / "training.json").write_text("{")
    assert read_run(log).total_steps is None


@pytest.mark.parametrize("name", ["", "log.jsonl", "other.jsonl"])
def test_missing_log_names_the_path_and_the_remedy(tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.jsonl: no such file: (train|pass)") as error:
        read_run(tmp_path / name)
    assert error.value.exit_code == 2


def test_an_empty_log_says_so(tmp_path):
    log = write_run(tmp_path, rows=[], evals=False, starts=False)
    assert read_run(log).notes[0] == "log.jsonl: no step logged yet"


def test_the_tasks_of_a_run(mixed_run, mixed_rows, tmp_path):
    assert set(mixed_run.tasks) == {"mlm", "nsp", "pairs", "crop", "ssd"}
    assert mixed_run.embedding_tasks == [
        task for task in mixed_run.tasks if task in ("pairs", "crop", "ssd")
    ]
    assert mixed_run.mixes_losses
    masked = read_run(write_run(tmp_path / "masked"))
    assert (masked.tasks, masked.embedding_tasks) == (["mlm", "nsp"], [])
    assert not masked.mixes_losses
    alone = write_run(tmp_path / "pairs", rows=[pair_row(step) for step in range(9)])
    assert read_run(alone).embedding_tasks == ["pairs"]
    assert not read_run(alone).mixes_losses
