"""Streams that go away: what cannot be written is dropped, the work goes on, and the code tells."""

import os
import subprocess
import sys
import threading

import pytest

from kl3m_embeddings.commands.terminal import Stream, final_code, keep_going, stdout_lost

WORK = """
import sys
from kl3m_embeddings.commands import shell

def command():
    for number in range(3):
        print("progress", file=sys.stderr, flush=True)
        print("product" {flush})
    open(sys.argv[1], "w").write("done")
    {leave}

sys.exit(shell.run(command))
"""


def run(tmp_path, *, stdout=None, stderr=None, flush="", leave="return 0"):
    """Exit code, whether the work was done, and what was said; None: a stream that is there.

    `closed pipe`, `full` and `vanished` are what is behind a stream; `closed`: it never was open.
    """
    opened = []

    def stream(kind):
        if kind == "full":
            opened.append(os.open("/dev/full", os.O_WRONLY))
        elif kind == "closed pipe":
            reading, writing = os.pipe()
            os.close(reading)
            opened.append(writing)
        elif kind == "vanished":
            terminal, writing = os.openpty()
            os.close(terminal)
            opened.append(writing)
        else:
            return subprocess.PIPE if kind is None else None
        return opened[-1]

    closed = [str(number) for number, kind in ((1, stdout), (2, stderr)) if kind == "closed"]
    program = WORK.format(flush=flush and f", flush={flush}", leave=leave)
    shell = " ".join(["exec", '"$@"', *(f"{number}>&-" for number in closed)])
    command = ["/bin/sh", "-c", shell, "sh", sys.executable, "-c", program, str(tmp_path / "work")]
    done = subprocess.run(
        command, stdout=stream(stdout), stderr=stream(stderr), text=True, check=False
    )
    for descriptor in opened:
        os.close(descriptor)
    is_done = (tmp_path / "work").exists() and (tmp_path / "work").read_text() == "done"
    return done.returncode, is_done, done.stderr or ""


GONE = ["closed pipe", "full", "vanished", "closed"]


@pytest.mark.parametrize("kind", GONE)
def test_without_standard_error_a_command_does_its_work(tmp_path, kind):
    assert run(tmp_path, stderr=kind)[:2] == (0, True)


@pytest.mark.parametrize("flush", ["", "True"])
@pytest.mark.parametrize(("kind", "code"), [*zip(GONE, [141, 73, 73, 73], strict=True)])
def test_what_is_printed_and_lost_is_told_at_the_end(tmp_path, kind, code, flush):
    found, is_done, said = run(tmp_path, stdout=kind, flush=flush)
    assert (found, is_done) == (code, True)
    told = said.removeprefix("progress\n" * 3)
    assert told.count("\n") == (code == 73)
    assert "Traceback" not in told
    assert code == 141 or told.startswith("error: standard output: cannot be written: ")


@pytest.mark.parametrize("kind", GONE)
def test_without_both_the_code_alone_tells(tmp_path, kind):
    code, is_done, said = run(tmp_path, stdout=kind, stderr=kind)
    assert is_done
    assert code == (141 if kind == "closed pipe" else 73)
    assert said == ""


@pytest.mark.parametrize(
    ("leave", "code"), [("return 3", 3), ("sys.exit(3)", 3), ("sys.exit(0)", 73), ("1 / 0", 70)]
)
def test_however_a_command_ends_its_own_code_comes_first(tmp_path, leave, code):
    assert run(tmp_path, stdout="full", leave=leave)[0] == code


def test_where_nothing_is_lost_nothing_changes(tmp_path):
    assert run(tmp_path) == (0, True, "progress\n" * 3)


def test_a_stream_drops_what_cannot_be_written():
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        stream = Stream(full.fileno(), "w", closefd=False)
        assert stream.lost is None
        assert stream.write(b"four") == 4
        assert stream.lost.strerror == "No space left on device"
        assert stream.write(b"more") == 4


def test_a_pipe_that_is_full_for_now_is_waited_for():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    content, read = b"x" * 300_000, []

    def reader():
        with os.fdopen(reading, "rb") as file:
            read.append(file.read())

    thread = threading.Thread(target=reader)
    stream = Stream(writing, "w")
    written = stream.write(content)  # as much as there is room for
    assert written < len(content)
    thread.start()
    while written < len(content):
        written += stream.write(content[written:])
    stream.close()
    thread.join()
    assert read == [content]
    assert stream.lost is None


def test_where_others_catch_what_is_said_nothing_is_changed(capsys):
    assert keep_going() is False
    assert stdout_lost() is None
    assert (final_code(0), final_code(5)) == (0, 5)
