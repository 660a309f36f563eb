import json
from contextlib import ExitStack
from datetime import datetime

from kl3m_embeddings.encoder.hardware import describe_versions
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.run.logs import open_logs, write_run_record
from kl3m_embeddings.train.logs import EVAL, LOG, OBJECTS


def write(folder, state, *steps):
    """Rows of these steps in every log, and the offsets after them."""
    with ExitStack() as stack:
        logs = open_logs(folder, state, stack)
        assert logs.keys() == {LOG, EVAL, OBJECTS}
        for step in steps:
            for writer in logs.values():
                writer.write({"step": step})
        return {name: writer.sync() for name, writer in logs.items()}


def steps_of(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_logs_are_cut_to_where_the_state_knows_them_and_appended_to(tmp_path, capsys):
    known = write(tmp_path, TrainState(), 1, 2)
    write(tmp_path, TrainState(step=2, log_offsets=known), 3, 4)
    assert capsys.readouterr().err == ""
    write(tmp_path, TrainState(step=2, log_offsets=known), 30)
    for name in (LOG, EVAL):
        assert steps_of(tmp_path / name) == [1, 2, 30]
    assert steps_of(tmp_path / "log.orphan-2-1.jsonl") == [3, 4]
    assert "warning: " in capsys.readouterr().err


def test_each_start_is_a_line_with_what_it_ran_on(tmp_path):
    write_run_record(tmp_path, TrainState(), {"checkpoint": None, "config": {"a": 1}})
    write_run_record(tmp_path, TrainState(step=4), {"checkpoint": "checkpoint-4"})
    first, second = (json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines())
    assert [(one["event"], one["step"]) for one in (first, second)] == [("start", 0), ("resume", 4)]
    assert first["config"] == {"a": 1}
    assert second["versions"] == describe_versions()
    moments = [datetime.fromisoformat(one["time"]) for one in (first, second)]
    assert moments[0] <= moments[1]
    assert moments[0].tzinfo is not None
