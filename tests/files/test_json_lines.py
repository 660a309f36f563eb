"""Small files: whole or not at all."""

import pytest

from kl3m_embeddings.errors import OutputError
from kl3m_embeddings.files.json_lines import read_lines, replace_lines, write_whole


def test_rows_of_the_same_are_replaced_and_others_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"model": "a", "step": None, "n": 1}, {"model": "b", "step": 2, "n": 2}]
    replace_lines(path, rows, ("model", "step"))
    replace_lines(path, [{"model": "a", "step": None, "n": 3}], ("model", "step"))
    assert read_lines(path) == [rows[1], {"model": "a", "step": None, "n": 3}]


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OutputError, match=r"file: cannot be written: File exists; make room"
    ) as caught:
        write_whole(tmp_path / "file" / "rows.jsonl", "")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 73


def test_line_ends_stay_as_they_are(tmp_path):
    write_whole(tmp_path / "table.csv", "a\r\n")
    assert (tmp_path / "table.csv").read_bytes() == b"a\r\n"
