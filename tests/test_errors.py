import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from kl3m_embeddings import errors
from kl3m_embeddings.errors import (
    ConfigError,
    DataError,
    OtherRankError,
    OutputError,
    RetryError,
    UserError,
    did_you_mean,
    explained,
    writing,
)

KINDS = (UserError, ConfigError, DataError, OutputError, RetryError)


def test_every_exit_code_is_in_the_table_of_the_docs():
    docs = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", docs, re.MULTILINE)
    table = {int(code): says for codes, says in rows for code in codes.split(", ")}
    codes = [kind.exit_code for kind in KINDS] + [errors.INTERNAL_ERROR, errors.INTERRUPTED]
    assert set(codes) <= table.keys()
    assert "configuration" in table[ConfigError.exit_code]
    assert "damaged" in table[DataError.exit_code]
    assert "cannot write" in table[OutputError.exit_code]
    assert "try again" in table[RetryError.exit_code]
    assert "Ctrl-C" in table[errors.INTERRUPTED]
    assert "defect" in table[errors.INTERNAL_ERROR] == table[UserError.exit_code]


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_value_errors_of_one_kind(kind):
    assert issubclass(kind, UserError)
    assert issubclass(kind, ValueError)
    assert str(kind("what is wrong")) == "what is wrong"


def test_another_ranks_error_says_nothing_and_keeps_its_code():
    assert (str(OtherRankError(75)), OtherRankError(75).exit_code) == ("", 75)
    assert isinstance(OtherRankError(65), UserError)


def test_what_cannot_be_written_is_one_line_with_place_and_remedy():
    with (
        pytest.raises(OutputError, match=r"^x/y: cannot be written: No space left on device; go$"),
        writing(Path("x/y"), "go"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.ENOMEM])
def test_what_no_other_place_helps_against_is_tried_again(number):
    with (
        pytest.raises(RetryError, match=f"^x/y: {os.strerror(number)}; "),
        writing(Path("x/y"), "go"),
    ):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", sorted(errors.MACHINE))
def test_every_errno_of_the_table_is_one_line_with_place_reason_and_remedy(number):
    reason = os.strerror(number)
    told = explained(OSError(number, reason, "x/y"), "elsewhere")
    assert str(told).startswith("x/y: ")
    assert reason in str(told)
    assert str(told).endswith(errors.MACHINE[number][1])
    assert told.exit_code in (73, 75)
    assert str(explained(OSError(number, reason), "elsewhere")).startswith("elsewhere: ")
    assert "\n" not in str(told)


MEMORY = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1 << 60,), np.dtype("f8")),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate"
                 " memory: you tried to allocate 9 bytes.\nsecond line"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904, 64]"),
    ValueError("Maximum allowed dimension exceeded"),
]  # fmt: skip


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_memory_that_is_not_there_is_one_line_of_every_librarys_error(error):
    told = explained(error, "models/x")
    assert told.exit_code == 75
    assert str(told).startswith("models/x: out of memory (")
    assert "\n" not in str(told)


def test_torchs_own_errors_are_among_them():
    for num_bytes in (1 << 60, (1 << 63) - 1):
        with pytest.raises(RuntimeError) as raised:
            torch.empty(num_bytes, 1 << 4)
        assert explained(raised.value).exit_code == 75
    with pytest.raises((MemoryError, ValueError)) as raised:
        np.empty(1 << 62)
    assert explained(raised.value).exit_code == 75


def test_a_users_error_explains_itself_and_a_defect_is_none():
    own = ConfigError("mine")
    assert explained(own) is own
    for defect in (
        KeyError("x"),
        ValueError("x"),
        RuntimeError("x"),
        RecursionError("x"),
        OSError("x"),
    ):
        assert explained(defect) is None


def test_other_errors_pass_through():
    with pytest.raises(KeyError), writing(Path("x"), "go"):
        raise KeyError("mine")
    with writing(Path("x"), "go"):
        pass


@pytest.mark.parametrize(
    ("name", "otherwise", "says"),
    [
        ("peak_rl", "", " (did you mean peak_lr?)"),
        ("peak_rl", "see the docs", " (did you mean peak_lr?)"),
        ("zzz", "see the docs", " (see the docs)"),
        ("zzz", "", ""),
    ],
)
def test_the_nearest_name_is_offered(name, otherwise, says):
    assert did_you_mean(name, ["start_lr", "peak_lr", "peak_steps"], otherwise) == says
