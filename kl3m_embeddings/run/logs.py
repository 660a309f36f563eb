"""The files that a run writes beside its checkpoints: logs, and a record of each start."""

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from kl3m_embeddings.encoder.hardware import describe_versions
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.messages import warn
from kl3m_embeddings.train.logs import (
    EVAL,
    LOG,
    OBJECTS,
    GzipWriter,
    JsonlWriter,
    RowWriter,
    cut_logs,
)
from kl3m_embeddings.train.resume import RUN_FILE


def open_logs(folder: Path, state: TrainState, stack: ExitStack) -> Mapping[str, RowWriter]:
    """The log files, cut to where the state knows them, open to append."""
    for message in cut_logs(folder, state.log_offsets, state.step):
        warn(message)
    files = {name: stack.enter_context((folder / name).open("ab")) for name in (LOG, EVAL, OBJECTS)}
    return {
        LOG: JsonlWriter(files[LOG]),
        EVAL: JsonlWriter(files[EVAL]),
        OBJECTS: GzipWriter(files[OBJECTS]),
    }


def write_run_record(folder: Path, state: TrainState, facts: Mapping[str, Any]) -> None:
    """Append to run.jsonl what this start runs on and with.

    Args:
        folder: the model folder.
        state: where the run starts.
        facts: further fields; `checkpoint` is None where the run starts anew.
    """
    record = {
        "event": "resume" if facts["checkpoint"] else "start",
        "step": state.step,
        "time": datetime.now().astimezone().isoformat(),
        "versions": describe_versions(),
        **facts,
    }
    with (folder / RUN_FILE).open("ab") as file:
        file.write(json_line(record))
