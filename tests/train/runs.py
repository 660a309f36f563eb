"""Runs in child processes, which share this process's imports."""

import gzip
import json
import os

from kl3m_embeddings.commands.train import main


def run_forked(*arguments, fault=None, prepare=None):
    """Train in a child process; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        if fault:
            os.environ["KL3M_FAULT"] = fault
        if prepare:
            prepare()
        os._exit(main([*map(str, arguments), "--quiet"]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


TIMINGS = {
    "sample_time", "forward_time", "backward_time", "optimizer_time", "step_time", "total_time",
    "token_rate", "device_mb", "peak_flops", "mfu", "time", "eval_time", "text_time",
    "pairs_time", "tasks_time",
}  # fmt: skip


def log_rows(path):
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{key: row[key] for key in row.keys() - TIMINGS} for row in rows]


def assert_same_run(folder, reference):
    """The same weights, optimizer state and logs, bit for bit, timings aside."""
    files = ["model.safetensors", "trainer/optimizer.safetensors", "trainer/heads.safetensors"]
    for name in files:
        ours, theirs = (f / "latest" / name for f in (folder, reference))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert log_rows(folder / "log.jsonl") == log_rows(reference / "log.jsonl")
    assert log_rows(folder / "eval.jsonl") == log_rows(reference / "eval.jsonl")
    objects = [gzip.decompress((f / "objects.jsonl.gz").read_bytes()) for f in (folder, reference)]
    assert objects[0] == objects[1]
    assert (folder / "latest").resolve().name == (reference / "latest").resolve().name
