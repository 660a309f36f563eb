"""Files of JSON lines."""

from kl3m_embeddings.files.json_lines import read_lines, replace_lines


def test_rows_of_the_same_are_replaced_and_others_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"model": "a", "step": None, "n": 1}, {"model": "b", "step": 2, "n": 2}]
    replace_lines(path, rows, ("model", "step"))
    replace_lines(path, [{"model": "a", "step": None, "n": 3}], ("model", "step"))
    assert read_lines(path) == [rows[1], {"model": "a", "step": None, "n": 3}]
