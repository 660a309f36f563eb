import gzip
import json
import os

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
    assert skipped == [("x.jsonl", 2, "empty"), ("x.jsonl", 3, "not a text")]


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


@pytest.mark.parametrize("kind", ["a named pipe", "a link to 'nowhere'"])
@pytest.mark.parametrize("path", ["", "*", "x.jsonl"])
def test_what_is_no_file_is_not_left_out_in_silence(folder, kind, path):
    """Neither in a folder nor in a glob, if its name is that of a file to be read."""
    if kind == "a named pipe":
        os.mkfifo(folder / "x.jsonl")
    else:
        (folder / "x.jsonl").symlink_to("nowhere")
    with pytest.raises(DataError, match=rf"x\.jsonl: {kind}"):
        list_sources(folder / path)


def test_a_folder_that_may_not_be_read_is_told(folder, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot be read: Permission denied"):
        list_sources(folder)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".txt", ".parquet", ".arrow"])
def test_a_name_that_is_no_utf8_is_read_and_escaped_in_ids(tmp_path, suffix):
    import pyarrow as pa
    from pyarrow import ipc, parquet

    path = tmp_path / os.fsdecode(b"donn\xe9es" + suffix.encode())
    table = pa.table({"text": ["one"]})
    if suffix == ".parquet":
        with path.open("wb") as file:
            parquet.write_table(table, file)
    elif suffix == ".arrow":
        with path.open("wb") as file, ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text({".jsonl": '{"text": "one"}', ".csv": "text\none\n"}.get(suffix, "one"))
    for where in (path, tmp_path, tmp_path / f"*{suffix}"):
        (document,) = iter_documents(where)
        assert document.text == "one"
        assert document.id.removesuffix(":1") == f"donn\\xe9es{suffix}"
