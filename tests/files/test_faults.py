"""Each case in a child process, which may be killed."""

import os
import signal

import pytest

from kl3m_embeddings.files.faults import fault_point


def killed(fault, passes, *, rank=None):
    """Whether a child that passes these places is killed, and after how many of them."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.environ["KL3M_FAULT"] = fault
        os.environ.pop("RANK", None)
        if rank is not None:
            os.environ["RANK"] = rank
        for name in passes:
            fault_point(name)
            os.write(writer, b".")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(writer)
    with os.fdopen(reader, "rb") as read:
        num_passed = len(read.read())
    assert status in (0, -signal.SIGKILL)
    return status != 0, num_passed


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", (False, 5)),
        ("other", (False, 5)),
        ("save", (True, 1)),
        ("save:1", (True, 1)),
        ("save:2", (True, 3)),
        ("step:2", (True, 4)),
        ("save:3", (False, 5)),
        ("sav:1", (False, 5)),
    ],
)
def test_it_dies_where_it_passes_the_named_place_for_the_nth_time(fault, expected):
    assert killed(fault, ["step", "save", "eval", "save", "step"]) == expected


@pytest.mark.parametrize(
    ("rank", "dies"), [(None, False), ("0", False), ("1", True), ("11", False)]
)
def test_a_rank_may_be_named(rank, dies):
    assert killed("save:1@1", ["save"], rank=rank) == (dies, 0 if dies else 1)
    assert killed("save:1", ["save"], rank=rank) == (True, 0)
