import datasets
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from kl3m_embeddings.data.readers.documents import iter_documents, list_sources, read_records
from kl3m_embeddings.data.readers.records import Document, ReadOptions
from kl3m_embeddings.errors import ConfigError, DataError

TABLE = pa.table(
    {
        "id": pa.array([10, None, 12]),
        "text": pa.array(["one", "two", None]),
        "unread": pa.array([[1.0], [2.0], [3.0]]),
    }
)


def write_parquet(path, table):
    parquet.write_table(table, path)


def write_arrow_stream(path, table):
    with ipc.new_stream(path, table.schema) as file:
        file.write_table(table)


def write_arrow_file(path, table):
    with ipc.new_file(path, table.schema) as file:
        file.write_table(table)


WRITERS = {
    "x.parquet": write_parquet,
    "stream.arrow": write_arrow_stream,
    "file.arrow": write_arrow_file,
}


@pytest.mark.parametrize("name", WRITERS)
def test_tables_give_documents(tmp_path, name):
    WRITERS[name](tmp_path / name, TABLE)
    skipped = []
    documents = list(iter_documents(tmp_path / name, on_skip=skipped.append))
    assert documents == [Document("10", "one"), Document(f"{name}:2", "two")]
    assert skipped == [(name, 3, "no text")]


@pytest.mark.parametrize("name", WRITERS)
def test_invalid_utf8_costs_its_row_only(tmp_path, name):
    offsets = pa.py_buffer(b"".join(i.to_bytes(4, "little") for i in (0, 2, 3, 5)))
    column = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"ok\xffme"))
    WRITERS[name](tmp_path / name, pa.table({"text": column}))
    skipped = []
    documents = list(iter_documents(tmp_path / name, on_skip=skipped.append))
    assert [document.text for document in documents] == ["ok", "me"]
    assert skipped == [(name, 2, "invalid UTF-8")]


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_table_is_an_error(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, TABLE)
    path.write_bytes(path.read_bytes()[:-40] if name == "x.parquet" else b"ARROW1 and no more")
    with pytest.raises(DataError, match=name):
        list(iter_documents(path))


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_names_those_there_are(tmp_path, name):
    WRITERS[name](tmp_path / name, TABLE)
    with pytest.raises(ConfigError, match="'id', 'text', 'unread'"):
        list(iter_documents(tmp_path / name, ReadOptions(text_column="body")))


def test_hub_address_is_taken_apart_and_streamed(monkeypatch):
    calls = []

    def load_dataset(path, name, *, split, streaming):
        calls.append((path, name, split, streaming))
        return datasets.IterableDataset.from_generator(
            lambda: ({"text": f"row {i}"} for i in range(3))
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    sources = list_sources("hf://org/name/config:test")
    records = list(read_records(sources, ReadOptions(), start=(0, 1)))
    assert [record.item.text for record in records] == ["row 1", "row 2"]
    assert [record.row for record in records] == [1, 2]
    list(iter_documents("hf://org/name"))
    assert calls == [("org/name", "config", "test", True), ("org/name", None, "train", True)]


def test_hub_without_a_network_is_one_line():
    with pytest.raises(DataError, match=r"hf://org/missing: .*HF_HUB_OFFLINE"):
        list(iter_documents("hf://org/missing"))


def test_a_bad_hub_address_says_what_is_expected():
    with pytest.raises(ConfigError, match="org/name"):
        list(iter_documents("hf://name"))
