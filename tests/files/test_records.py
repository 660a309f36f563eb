"""State files are read strictly: what was not written by us is told, with the remedy."""

import json
from dataclasses import dataclass, field

import pytest

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.records import Count, Positive, Record, check_record, read_record


class Inner(Record):
    """A part of one."""

    size: Count
    name: str = "none"


@dataclass
class Outer:
    """A state file."""

    step: Positive
    place: tuple[Count, Count]
    score: float | None = None
    parts: dict[str, Inner] = field(default_factory=dict)


WHOLE = {"step": 3, "place": [1, 2], "score": 1, "parts": {"a": {"size": 0, "of later": 1}}}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_what_was_written_comes_back_typed(tmp_path):
    found = read_record(write(tmp_path / "x.json", WHOLE), Outer, "make it again")
    assert found == Outer(step=3, place=(1, 2), score=1.0, parts={"a": Inner(size=0)})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"step": 0}, "step"),
        ({"step": True}, "step"),
        ({"step": "3"}, "step"),
        ({"step": 3.0}, "step"),
        ({"step": None}, "step"),
        ({"step": 2**63}, "step"),
        ({"place": [1]}, "place.1"),
        ({"place": [1, -2]}, "place.1"),
        ({"score": "high"}, "score"),
        ({"parts": []}, "parts"),
        ({"parts": {"a": {}}}, "parts.a.size"),
        ({"parts": {"a": {"size": 1, "name": 5}}}, "parts.a.name"),
    ],
)
def test_wrong_types_and_absurd_numbers_name_the_key(tmp_path, change, key):
    path = write(tmp_path / "x.json", WHOLE | change)
    with pytest.raises(DamagedError, match=rf"^{path}: {key}: .*; make it again$") as raised:
        read_record(path, Outer, "make it again")
    assert raised.value.exit_code == 65


@pytest.mark.parametrize("key", ["step", "place"])
def test_a_missing_key_is_named(tmp_path, key):
    path = write(tmp_path / "x.json", {name: one for name, one in WHOLE.items() if name != key})
    with pytest.raises(DamagedError, match=f"{key}: Field required; make it again"):
        read_record(path, Outer, "make it again")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 50,
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b'{"step": NaN}',
        b'{"step": 1, "step": 2}',
        b'{"step": ' + b"9" * 5000 + b"}",
        b'{"step": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_object_is_one_line(tmp_path, content):
    path = write(tmp_path / "x.json", content)
    with pytest.raises(DamagedError) as raised:
        read_record(path, Outer, "make it again")
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("; make it again")
    assert "\n" not in message


def test_what_cannot_be_read_is_one_line(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DamagedError, match=r"cannot be read: .*; make it again"):
            read_record(path, Outer, "make it again")


def test_a_name_that_is_no_utf8_is_no_damage():
    row = {"size": 1, "name": "caf\udce9"}
    assert check_record("x.jsonl:1", row, Inner, "mend it").size == 1
