"""Files of JSON lines."""

from kl3m_embeddings.files.json_lines import json_line, read_lines, replace_lines


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
