import gzip
import json

import pytest

from kl3m_embeddings.data.readers.documents import iter_documents, list_sources, read_records
from kl3m_embeddings.data.readers.records import Document, ReadOptions
from kl3m_embeddings.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.txt").write_text("second", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n', encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "C.MD").write_text("third", encoding="utf-8")
    (tmp_path / "sub" / "d.csv.gz").write_bytes(gzip.compress(b"id,text\n7,fourth\n"))
    (tmp_path / "ignored.bin").write_bytes(b"\x00")
    (tmp_path / ".hidden.txt").write_text("hidden", encoding="utf-8")
    return tmp_path


def test_folder_is_searched_in_sorted_order_and_ids_are_relative(folder):
    assert list(iter_documents(folder)) == [
        Document("a.jsonl:1", "first"),
        Document("b.txt", "second"),
        Document("sub/C.MD", "third"),
        Document("7", "fourth"),
    ]


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("*.txt", ["second"]),
        ("**/*.csv.gz", ["fourth"]),
        ("sub/*", ["third", "fourth"]),
        ("[ab].*", ["first", "second"]),
    ],
)
def test_globs(folder, pattern, texts):
    assert [document.text for document in iter_documents(f"{folder}/{pattern}")] == texts


def test_several_paths_keep_their_order(folder):
    names = [source.name for source in list_sources([folder / "b.txt", folder / "a.jsonl"])]
    assert names == ["b.txt", "a.jsonl"]


@pytest.mark.parametrize("path", ["missing.jsonl", "ignored.bin", "*.parquet", "empty"])
def test_nothing_to_read_is_an_error(folder, path):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=path.replace("*", r"\*")):
        list_sources(folder / path)


def test_missing_text_column_names_the_columns_there_are(folder):
    with pytest.raises(ConfigError, match=r"no column 'body' among 'text'.*--text-column"):
        list(iter_documents(folder, ReadOptions(text_column="body")))


def test_skipped_rows_are_told(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "one"}\n{"text": ""}\n{"text": 3}\n', encoding="utf-8")
    skipped = []
    documents = list(iter_documents(path, on_skip=skipped.append))
    assert [document.text for document in documents] == ["one"]
    assert skipped == [("x.jsonl", 2, "empty"), ("x.jsonl", 3, "no text")]


def test_reading_starts_at_any_row(tmp_path):
    import pyarrow as pa
    from pyarrow import ipc, parquet

    rows = [f"text {i}" for i in range(7)]
    table = pa.table({"text": rows})
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in rows), encoding="utf-8"
    )
    (tmp_path / "b.csv").write_text("text\n" + "\n".join(rows), encoding="utf-8")
    parquet.write_table(table, tmp_path / "c.parquet", row_group_size=3)
    with ipc.new_stream(tmp_path / "d.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=2)
    (tmp_path / "e.txt").write_text("whole", encoding="utf-8")
    sources = list_sources(tmp_path)
    everything = list(read_records(sources, ReadOptions()))
    assert len(everything) == 4 * len(rows) + 1
    for number, record in enumerate(everything):
        rest = list(read_records(sources, ReadOptions(), start=(record.source, record.row)))
        assert rest == everything[number:]


def test_all_bytes_of_the_files_are_reported(folder):
    counts = []
    list(iter_documents(folder, ReadOptions(on_bytes=counts.append)))
    assert sum(counts) == sum(source.num_bytes for source in list_sources(folder))
