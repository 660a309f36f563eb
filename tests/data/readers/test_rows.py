"""Rows of each kind of file, as Python's own csv and json read them."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.data.readers.rows import (
    TEXT_ROW_READERS,
    bare_suffix,
    checked_header,
    csv_rows,
    is_list_literal,
    jsonl_rows,
    tsv_rows,
)
from kl3m_embeddings.errors import DataError

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6)


@given(TABLES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_pythons_csv_wrote_is_read_back(tmp_path, table):
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *table])
    with path.open(newline="", encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    assert [values for _, values in csv_rows(str(path), ReadOptions())] == expected
    assert expected == [dict(zip("ab", row, strict=True)) for row in table]


@given(TABLES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_pythons_json_wrote_is_read_back(tmp_path, table):
    path = tmp_path / "x.jsonl"
    rows = [dict(zip("ab", row, strict=True)) for row in table]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert list(jsonl_rows(str(path), ReadOptions())) == list(enumerate(rows, start=1))


def test_csv_rows_are_at_their_first_line_with_as_many_cells_as_the_header(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,"two\nlines"\n3\n,,\n\n4,5\n', encoding="utf-8")
    assert list(csv_rows(str(path), ReadOptions())) == [
        (2, {"a": "1", "b": "two\nlines"}),
        (4, "not as many cells as the header"),
        (5, "empty"),
        (6, "empty"),
        (7, {"a": "4", "b": "5"}),
    ]


def test_a_quote_in_tsv_is_a_character_like_any_other(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b'a\tb\r\n"open\t2\r\n\xff\t3\n4\n5\t6')
    assert list(tsv_rows(str(path), ReadOptions())) == [
        (2, {"a": '"open', "b": "2"}),
        (3, "invalid UTF-8"),
        (4, "not as many cells as the header"),
        (5, {"a": "5", "b": "6"}),
    ]


def test_a_line_beyond_the_limit_is_its_reason(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes(b"a\tb\n1\t2\n" + b"x" * (1 << 20) + b"\t3\n4\t5\n")
    rows = list(tsv_rows(str(path), ReadOptions(max_line_mb=1)))
    assert rows == [(2, {"a": "1", "b": "2"}), (3, "too long"), (4, {"a": "4", "b": "5"})]


def test_a_quote_that_is_never_closed_is_told_with_its_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,2\n"open,3\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.csv:3: not CSV: .* never closed"):
        list(csv_rows(str(path), ReadOptions()))


@pytest.mark.parametrize("kind", TEXT_ROW_READERS)
def test_a_compressed_file_is_of_the_kind_within(tmp_path, kind):
    content = b'{"a": "1"}\n' if kind == ".jsonl" else b"a\n1\n"
    path = tmp_path / f"x{kind}.gz"
    path.write_bytes(gzip.compress(content))
    assert bare_suffix(path) == bare_suffix(Path(f"X{kind.upper()}")) == kind
    ((_, values),) = TEXT_ROW_READERS[bare_suffix(path)](str(path), ReadOptions())
    assert values == {"a": "1"}


def test_a_column_twice_is_an_error():
    assert checked_header(["a", "b"], "x.csv") == ["a", "b"]
    with pytest.raises(DataError, match=r"x\.csv: more than one column 'b'; keep one"):
        checked_header(["b", "a", "b"], "x.csv")


@pytest.mark.parametrize("texts", [["a", "b"], ["it's", "so"], ["so", "it's"], ["a"], []])
def test_a_list_as_python_or_json_writes_it_is_told_from_a_text(texts):
    for cell in (repr(texts), json.dumps(texts), f" {texts} "):
        assert is_list_literal(cell)
    for cell in ("[1]", "[sic] a text", "a ['b']", "['a'] and more", "", 1):
        assert not is_list_literal(cell)
