"""Files of JSON lines."""

import pytest

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.json_lines import json_line, read_lines, read_records, replace_lines
from kl3m_embeddings.files.records import Count, Record


def test_rows_of_the_same_are_replaced_and_others_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"model": "a", "step": None, "n": 1}, {"model": "b", "step": 2, "n": 2}]
    replace_lines(path, rows, ("model", "step"))
    replace_lines(path, [{"model": "a", "step": None, "n": 3}], ("model", "step"))
    assert read_lines(path) == [rows[1], {"model": "a", "step": None, "n": 3}]


def test_what_ends_lines_in_unicode_only_is_part_of_a_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"name": "a\u2028b\x85c\x0cd"}
    path.write_bytes(json_line(row) + json_line({"n": 1}))
    assert read_lines(path) == [row, {"n": 1}]


class Row(Record):
    """A row of a file."""

    n: Count


@pytest.mark.parametrize(
    "line", [b"", b"[1]", b"null", b'{"n": ', b"\xff", b"[" * 100_000, b'{"n": ' + b"9" * 5000]
)
def test_a_line_that_is_no_object_is_told(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json_line({"n": 1}) + line + b"\n")
    with pytest.raises(DamagedError, match=r"rows.jsonl:2: not a row of this file: mend it"):
        read_lines(path, "mend it")


def test_rows_of_a_kind(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert read_records(path, Row) == []
    path.write_bytes(json_line({"n": 1}) + json_line({"n": 2, "of later": 0}))
    assert read_records(path, Row) == [Row(n=1), Row(n=2)]
    path.write_bytes(json_line({"n": 1}) + json_line({"n": "2"}))
    with pytest.raises(DamagedError, match=r"rows.jsonl:2: not a row of this file: n: .*; move"):
        read_records(path, Row)
