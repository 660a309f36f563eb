import errno
import io
import os
import subprocess
import sys

import pytest

from kl3m_embeddings.commands.shell import run
from kl3m_embeddings.errors import ConfigError, DataError, OtherRankError, OutputError, RetryError


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize("code", [0, 1, 143])
def test_a_commands_code_is_returned(capsys, code):
    assert run(lambda: code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "code"), [(ConfigError, 2), (DataError, 65), (OutputError, 73), (RetryError, 75)]
)
def test_what_a_person_can_mend_is_a_line_each_without_a_trace(capsys, kind, code):
    assert run(raising(kind("first: wrong\nsecond: wrong"))) == code
    assert capsys.readouterr() == ("", "error: first: wrong\nerror: second: wrong\n")


def test_with_debug_there_is_a_trace(capsys):
    assert run(raising(ConfigError("wrong")), debug=True) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "ConfigError: wrong" in said


@pytest.mark.parametrize(
    "error", [ValueError("defect"), KeyError("defect"), RuntimeError("defect")]
)
def test_a_defect_shows_its_trace_and_is_70(capsys, error):
    assert run(raising(error)) == 70
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert "defect" in said


def test_another_ranks_error_ends_with_its_code_and_says_nothing(capsys):
    assert run(raising(OtherRankError(75)), debug=True) == 75
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_is_no_defect(capsys):
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/log.jsonl"), 73),
        (OSError(errno.EMFILE, "Too many open files", "x/log.jsonl"), 75),
        (MemoryError("Unable to allocate 8 EiB"), 75),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), 75),
    ],
)
def test_what_the_machine_does_is_a_line_without_a_trace(capsys, error, code):
    assert run(raising(error)) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert run(raising(error), debug=True) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_command_may_leave_by_itself():
    with pytest.raises(SystemExit) as leaving:
        run(raising(SystemExit(2)))
    assert leaving.value.code == 2


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_told_otherwise(monkeypatch, given, expected):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert run(lambda: 0 if os.environ["OMP_WAIT_POLICY"] == expected else 1) == 0
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # is put back after the test


@pytest.mark.parametrize("module", ["cli", "train", "train_deepspeed", "describe"])
def test_torch_which_asks_once_how_threads_wait_loads_later(module):
    script = f"import sys, kl3m_embeddings.commands.{module}; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_the_terminal_cannot_show_is_escaped(monkeypatch, encoding):
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", screen)
    text = f"modèle 模型 {os.fsdecode(bytes([0xE9]))} ─"
    assert run(lambda: print(text) or 0) == 0
    screen.flush()
    assert (
        screen.buffer.getvalue().decode(encoding)
        == text.encode(encoding, "backslashreplace").decode(encoding) + os.linesep
    )
