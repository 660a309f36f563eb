"""Each trap of a column: its type in a table, numbers and lists as people write them."""

import json
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from kl3m_embeddings.data.pair_sets.files import PairReader, list_pair_files
from kl3m_embeddings.data.pair_sets.formats import PairRow
from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.errors import DataError
from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.local_tasks.ways_in import documents, folder, pairs, task_table

# values of a column, and what they are as texts of documents and as positives of pairs
OF_TYPES = {
    "text": (pa.array(["a", None]), ["a"], ["a"]),
    "long text": (pa.array(["a", None], pa.large_string()), ["a"], ["a"]),
    "text by views": (pa.array(["a", None], pa.string_view()), ["a"], ["a"]),
    "a dictionary": (pa.array(["a", None]).dictionary_encode(), ["a"], ["a"]),
    "nulls": (pa.nulls(2), [], []),
    "lists of texts": (pa.array([["a", "b"], []]), [], ["a", "b"]),
    "lists of numbers": (pa.array([[1], None]), [], []),
    "bytes": (pa.array([b"a", None]), [], []),
    "whole numbers": (pa.array([1, None]), [], []),
    "decimals": (pa.array([Decimal("1.5"), None]), [], []),
    "truth": (pa.array([True, None]), [], []),
    "dates": (pa.array([date(2024, 1, 1), None]), [], []),
    "times in ns": (pa.array([1, None], pa.timestamp("ns")), [], []),
    "times of a zone": (pa.array([1, None], pa.timestamp("us", "+01:00")), [], []),
    "structs": (pa.array([{"text": "a"}, None]), [], []),
}  # fmt: skip


def write_table(path, table):
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        with ipc.new_file(path, table.schema) as file:
            file.write_table(table)


@pytest.mark.parametrize(
    ("way", "suffix", "column", "texts"),
    [
        pytest.param(way, suffix, column, right, id=f"{way.__name__}, {suffix}: {name}")
        for name, (column, of_documents, of_pairs) in OF_TYPES.items()
        for way, suffix, right in (
            (documents, ".parquet", of_documents),
            (documents, ".arrow", of_documents),
            (pairs, ".parquet", of_pairs),
        )
        if not (suffix == ".parquet" and name == "text by views")
    ],
)
def test_columns_of_every_type_are_texts_or_counted(tmp_path, way, suffix, column, texts):
    table = pa.table({"query": ["q1", "q2"], "positive": column})
    write_table(tmp_path / f"x{suffix}", table)
    found, reasons = way(tmp_path / f"x{suffix}")
    assert found == texts
    num_used = len(texts) if way is documents else min(1, len(texts))
    assert reasons.total() == 2 - num_used
    assert set(reasons) <= {"no text", "not a text", "no positive"}


@pytest.mark.parametrize("column", ["list", "dictionary", "plain"])
def test_invalid_utf8_in_a_column_costs_its_row_only(tmp_path, column):
    bad = pa.array([b"q", b"\xff"]).cast(pa.binary()).view(pa.string())
    values = {
        "plain": bad,
        "list": pa.ListArray.from_arrays([0, 1, 2], bad),
        "dictionary": pa.DictionaryArray.from_arrays([0, 1], bad),
    }[column]
    path = tmp_path / ("x.arrow" if column == "dictionary" else "x.parquet")
    write_table(path, pa.table({"query": ["a", "b"], "positive": values}))
    way = documents if column == "dictionary" else pairs
    assert way(path) == (["q"], {"invalid UTF-8": 1})


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_tables_without_rows_or_with_a_column_twice(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    none = [pa.array([], pa.string())] * 2
    write_table(path, pa.table(none, names=["query", "positive"]))
    assert documents(path) == ([], {})
    write_table(path, pa.table([["q"], ["p"], ["r"]], names=["id", "positive", "id"]))
    with pytest.raises(DataError, match="more than one column 'id'"):
        documents(path)
    if suffix == ".parquet":
        write_table(path, pa.table(none, names=["query", "positive"]))
        with pytest.raises(DataError, match=r"x\.parquet: there are no rows in it"):
            pairs(path)


NUMBERS = {
    "0.5": 0.5,
    " 1 ": 1.0,
    "-2e-1": -0.2,
    ".5": 0.5,
    "0,5": None,
    "1_000": None,
    "1,000.5": None,
    "nan": None,
    "inf": None,
    "1e999": None,
    "٣": None,
    "true": None,
    "0x10": None,
    "yes": None,
}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize(("written", "number"), NUMBERS.items())
def test_a_label_is_a_number_in_plain_digits(tmp_path, suffix, written, number):
    """In JSONL a text is none: pairs count it, tasks, which read tables of text, take digits."""
    path = tmp_path / f"x{suffix}"
    separator = "\t" if suffix == ".tsv" else ","
    rows = [("a", "b", "0"), ("c", "d", written), ("e", "f", "1")]
    names = ("sentence1", "sentence2", "score")
    if suffix == ".jsonl":
        content = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    else:
        quote = '"' if suffix == ".csv" else ""
        lines = [[f"{quote}{cell}{quote}" for cell in row] for row in [names, *rows]]
        content = "".join(separator.join(line) + "\n" for line in lines)
    path.write_text(content, encoding="utf-8")
    (file,) = list_pair_files(path)
    found = [row for row in PairReader(file, ReadOptions()).rows() if isinstance(row, PairRow)]
    expected = [] if suffix == ".jsonl" else [0.0, *([] if number is None else [number]), 1.0]
    assert [row.label for row in found] == expected
    task = tmp_path / "task"
    task.mkdir()
    (task / "task.json").write_text('{"name": "x", "type": "STS"}')
    path.rename(task / f"test{suffix}")
    if number is None:
        with pytest.raises(DataError, match=rf"test\{suffix}:\d: score: .* is not a number"):
            read_local_task(task)
    else:
        assert read_local_task(task).content.values == [0, number, 1]


def test_numbers_of_json_and_parquet(tmp_path):
    labels = {"1": 1, "true": 1, "0.25": 0.25, **dict.fromkeys(["null", "1e999", '"1"', "[1]"])}
    path = tmp_path / "x.jsonl"
    rows = [f'{{"sentence1": "a", "sentence2": "b", "label": {one}}}\n' for one in labels]
    path.write_text("".join(rows))
    (file,) = list_pair_files(path)
    rows = list(PairReader(file, ReadOptions()).rows())
    assert [row.label if isinstance(row, PairRow) else None for row in rows] == [*labels.values()]
    decimals = pa.array([Decimal("0.25"), None])
    table = pa.table({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": decimals})
    write_table(tmp_path / "y.parquet", table)
    (file,) = list_pair_files(tmp_path / "y.parquet")
    first, second = PairReader(file, ReadOptions()).rows()
    assert (first.label, second.reason) == (0.25, "no label")


@pytest.mark.parametrize("cell", ['["a", "b"]', "['a', 'b']", '["a"]', " ['it is \"so\"',]"])
@pytest.mark.parametrize("way", [pairs, task_table])
def test_a_list_in_a_cell_is_no_text(tmp_path, way, cell):
    quoted = cell.replace('"', '""')
    (tmp_path / "x.csv").write_text(f'query,positive\nq,"{quoted}"\nq1,[1] see below\n')
    assert way(tmp_path / "x.csv") == (
        ["[1] see below"],
        {"a list in a cell, which JSONL or parquet can hold": 1},
    )


def test_ids_and_labels_that_are_no_names(tmp_path):
    for number, label in enumerate(("[1]", "{}", '["a"]')):
        content = f'{{"text": "a", "label": {label}}}\n{{"text": "b", "label": 1}}\n'
        with pytest.raises(DataError, match=r"test\.jsonl:1: label: must be a text or a number"):
            folder(tmp_path / str(number), ".jsonl", content.encode())
