import errno
import re
from pathlib import Path

import pytest

from kl3m_embeddings import errors
from kl3m_embeddings.errors import (
    ConfigError,
    DataError,
    OtherRankError,
    OutputError,
    RetryError,
    UserError,
    did_you_mean,
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
