import json

import pytest
from pyarrow import parquet

from kl3m_embeddings.data.readers.documents import list_sources
from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.embed import chunk_file as module
from kl3m_embeddings.embed.chunk_corpus import ChunkRequest, build_chunker
from kl3m_embeddings.embed.chunk_file import chunk_file, hash_of
from kl3m_embeddings.embed.chunker import ChunkSize
from kl3m_embeddings.errors import ConfigError, DataError, OutputError
from kl3m_embeddings.files.hashes import sha256_of_file


@pytest.fixture(scope="module")
def chunker(model):
    return build_chunker(ChunkRequest(model=str(model), size=ChunkSize(num_tokens=64)))[0]


@pytest.fixture
def chunked(tmp_path, chunker):
    """A function: the table of a file of these rows, and its record."""

    def make(rows, **options):
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (source,) = list_sources(path)
        sealed = chunk_file(source, tmp_path, "a.parquet", chunker, ReadOptions(**options))
        return parquet.read_table(tmp_path / "a.parquet"), sealed

    return make


TEXT = "The court may review any order of the board. " * 8


def test_each_chunk_is_a_row_with_its_span(chunked, chunker):
    rows = [{"id": "x", "text": TEXT}, {"id": 7, "text": "Short."}, {"text": "No id."}]
    table, sealed = chunked(rows)
    assert table.column_names == ["id", "chunk", "start", "end", "num_tokens", "text"]
    texts = {"x": TEXT, "7": "Short.", "a.jsonl:3": "No id."}
    for row in table.to_pylist():
        assert row["text"] == texts[row["id"]][row["start"] : row["end"]]
    expected = chunker.chunk(list(texts.values()))
    found = [
        (row["chunk"], row["start"], row["end"], row["num_tokens"]) for row in table.to_pylist()
    ]
    assert found == [(n, *one) for chunks in expected for n, one in enumerate(chunks)]
    assert sealed.counts == {
        "documents": 3,
        "chunks": len(found),
        "tokens": sum(row[3] for row in found),
        "characters": sum(map(len, texts.values())),
        "duplicate_ids": 0,
    }
    assert sealed.input.name == "a.jsonl"
    assert sealed.sha256 != sealed.input.sha256


def test_rows_without_a_text_are_counted_by_reason(chunked):
    rows = [{"text": None}, {"text": 3}, {"text": " \n"}, {"text": "a\0b"}, {"text": "It is."}]
    table, sealed = chunked(rows)
    assert table["id"].to_pylist() == ["a.jsonl:5"]
    assert sealed.skipped == {"no text": 1, "not a text": 1, "empty": 1, "NUL": 1}


def test_an_id_that_comes_twice_is_counted_and_kept(chunked):
    table, sealed = chunked([{"id": "x", "text": "One."}, {"id": "x", "text": "Two."}])
    assert table["id"].to_pylist() == ["x", "x"]
    assert sealed.counts["duplicate_ids"] == 1


def test_columns_that_are_kept_travel_along_as_text(chunked):
    rows = [
        {"text": TEXT, "title": "T", "year": 1998, "tags": ["a", "é"]},
        {"text": "No year.", "title": None},
    ]
    table, _ = chunked(rows, keep_columns=("title", "year", "tags"))
    last = table.num_rows - 1
    assert table["title"].to_pylist() == [*(["T"] * last), None]
    assert set(table["year"].to_pylist()[:last]) == {"1998"}
    assert table["tags"].to_pylist()[0] == '["a", "é"]'


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"keep_columns": ("titel",)}, ConfigError, "--keep titel: no row has such a value"),
        ({"keep_columns": ("start",)}, ConfigError, "--keep start: chunks have a column of this"),
        ({"text_column": "txt"}, ConfigError, "no column 'txt' .*did you mean text?"),
    ],
)
def test_a_column_that_is_not_there(chunked, tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        chunked([{"text": "A text.", "title": "T"}], **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("rows", [[], [{"text": ""}]])
def test_a_file_without_documents_has_the_columns_and_no_rows(chunked, rows):
    table, sealed = chunked(rows)
    assert table.num_rows == sealed.counts["documents"] == 0
    assert table.column_names[0] == "id"


def test_batches_and_row_groups_change_nothing_but_the_row_groups(chunked, monkeypatch, tmp_path):
    rows = [{"text": TEXT + str(number)} for number in range(9)]
    table, _ = chunked(rows)
    monkeypatch.setattr(module, "BATCH_CHARS", 500)
    _, sealed = chunked(rows)
    assert sealed.sha256 == sha256_of_file(tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").equals(table)
    monkeypatch.setattr(module, "ROW_GROUP_CHARS", 1000)
    assert chunked(rows)[0].equals(table)
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups > 2


def test_a_file_that_breaks_off_leaves_nothing(tmp_path, chunker):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b")
    (source,) = list_sources(path)
    with pytest.raises(DataError, match="cannot be read"):
        chunk_file(source, tmp_path, "a.parquet", chunker, ReadOptions())
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl.gz"]


def test_a_place_that_cannot_be_written(tmp_path, chunker):
    (tmp_path / "a.jsonl").write_text('{"text": "A text."}\n')
    (tmp_path / "out").write_text("")
    (source,) = list_sources(tmp_path / "a.jsonl")
    with pytest.raises(OutputError):
        chunk_file(source, tmp_path / "out", "a.parquet", chunker, ReadOptions())


def test_a_hash_is_the_same_in_every_process():
    assert hash_of("a") == 3405396810240292928  # blake2b of RFC 7693, eight bytes
    assert hash_of("a") != hash_of("b")
    assert 0 <= hash_of("\ud800") < 2**64
