"""What vanishes under a real process: its terminal, its run folder, its home, the host's memory.

`train_single.py` and `kl3m` as users start them: each does its work, or ends with a line and a
code.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmark.folders import write_retrieval

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KL3M = "from kl3m_embeddings.commands.cli import main; main()"


@pytest.fixture
def start(monkeypatch):
    """A function that starts a program in the project's root."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*arguments, shell='exec "$@"', **settings):
        command = ["/bin/sh", "-c", shell, "sh", sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, **pipes | settings)

    return run


def ended(process):
    """Its exit code, and what it said, of which nothing is a trace."""
    printed, said = process.communicate(timeout=240)
    assert "Traceback" not in f"{printed}{said}"
    return process.returncode, said


@pytest.mark.parametrize("shell", ['"$@" 2>&-', '"$@" 2>/dev/full >/dev/full', '"$@" >&- 2>&- <&-'])
def test_a_run_without_a_terminal_does_its_work(start, make_model_folder, shell):
    folder = make_model_folder()
    assert ended(start("train_single.py", folder, shell=f"exec {shell}"))[0] == 0
    assert (folder / "checkpoint-12").is_dir()
    assert len((folder / "log.jsonl").read_text().splitlines()) == 12


def test_a_run_whose_pipe_ends_does_its_work(start, make_model_folder):
    folder = make_model_folder()
    process = start("train_single.py", folder, stderr=subprocess.STDOUT)
    process.stdout.close()
    assert process.wait(timeout=240) == 0
    assert (folder / "checkpoint-12").is_dir()


@pytest.mark.parametrize("how", ["moved", "deleted", "made a file"])
def test_a_run_folder_that_goes_while_it_trains_is_a_line(start, make_model_folder, tmp_path, how):
    folder = make_model_folder(optimizer={"total_steps": 10**6}, steps_per_save=50)
    process = start("train_single.py", folder, "--quiet")
    while not (folder / "checkpoint-0").is_dir() and process.poll() is None:
        time.sleep(0.05)
    folder.rename(tmp_path / "elsewhere")
    if how == "deleted":
        shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    if how == "made a file":
        folder.write_text("")
    code, said = ended(process)
    assert code == 73
    (line,) = [one for one in said.splitlines() if one.startswith("error: ")]
    assert line.startswith(f"error: {folder}")
    assert "put it back, if it was moved or deleted meanwhile" in line


def test_too_few_open_files_are_a_line(start, make_model_folder):
    process = start("train_single.py", make_model_folder(), shell='ulimit -n 12; exec "$@"')
    code, said = ended(process)
    assert code == 75
    assert "Too many open files; run less beside it, or raise the limit" in said


@pytest.mark.parametrize("field", ["batch_size", "optimizer.max_grad_norm_window"])
def test_sizes_for_which_there_is_no_memory_are_a_line(start, make_model_folder, field):
    process = start("train_single.py", make_model_folder(), "--set", f"{field}={10**14}")
    code, said = ended(process)
    assert code == 75
    assert "out of memory" in said


def test_a_home_that_cannot_be_written_is_no_reason_not_to_score(
    start, make_model_folder, tmp_path
):
    folder = make_model_folder()
    assert ended(start("train_single.py", folder, "--stop-after", 1, "--quiet"))[0] == 0
    task = write_retrieval(tmp_path / "task")
    environment = {**os.environ, "HOME": os.devnull, "MPLCONFIGDIR": str(tmp_path)}
    environment.pop("MTEB_CACHE", None)
    out = tmp_path / "out"
    process = start("-c", KL3M, "mteb", folder, "--task", task, "--out", out, env=environment)
    assert ended(process)[0] == 0
    assert json.loads((out / "scores.jsonl").read_text().splitlines()[0])["score"] is not None
