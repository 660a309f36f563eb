import gzip
import json
import subprocess
import sys
import tracemalloc

import pyarrow
import pytest

from kl3m_embeddings.data.readers.documents import iter_documents
from kl3m_embeddings.data.readers.records import Document, ReadOptions
from kl3m_embeddings.errors import DataError

GOOD = b'{"id": "g", "text": "good"}'


def read(path, **options):
    """The texts and the skipped (line, reason) of a file."""
    skipped = []
    documents = list(iter_documents(path, ReadOptions(**options), on_skip=skipped.append))
    return [document.text for document in documents], [row[1:] for row in skipped]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\xff"}', "invalid UTF-8"),
        (b'{"text": "\\ud800"}', "invalid UTF-8"),
        (b'{"text": "x", "id": "\\udfff"}', "invalid UTF-8"),
        (b'{"text": "a\x00b"}', "NUL"),
        (b'{"text": "a\\u0000b"}', "NUL"),
        (b'{"text": "x", "score": NaN}', "NaN or Infinity"),
        (b'{"text": "x", "score": -Infinity}', "NaN or Infinity"),
        (b'{"text": "x", "text": "y"}', "duplicate key"),
        (b'{"text": "x", "meta": {"a": 1, "a": 2}}', "duplicate key"),
        (b'{"text": "x"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"", "empty"),
        (b" \t", "empty"),
        (b'["text"]', "not a JSON object"),
        (b'{"text": null}', "no text"),
        (b'{"other": "x"}', "no text"),
        (b'{"text": " \\n"}', "empty"),
    ],
)
def test_a_bad_line_is_skipped_and_reading_goes_on(tmp_path, line, reason):
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\r\n" + GOOD)
    assert read(path) == (["good", "good"], [(2, reason)])


def test_a_huge_line_is_skipped_in_bounded_memory(tmp_path):
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(GOOD + b'\n{"text": "')
        file.write(b"x" * (40 << 20))
        file.write(b'"}\n' + GOOD + b"\n")
    tracemalloc.start()
    try:
        result = read(path, max_line_mb=1)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result == (["good", "good"], [(2, "too long")])
    assert peak_bytes < 10 << 20


@pytest.mark.parametrize(("num_bytes", "is_read"), [(1 << 20, True), ((1 << 20) + 1, False)])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_limit_is_exact(tmp_path, num_bytes, is_read, end):
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD + b"\n" + b'{"text": "%s"}' % (b"x" * (num_bytes - 12)) + end)
    texts, skipped = read(path, max_line_mb=1)
    assert (len(texts), skipped) == ((2, []) if is_read else (1, [(2, "too long")]))


def test_compressed_files_read_as_plain_ones(tmp_path):
    content = b"".join(b'{"text": "document %d"}\n' % i for i in range(2000))
    zstd = pyarrow.compress(content, codec="zstd", asbytes=True)
    for name, data in {
        "a.jsonl": content,
        "b.jsonl.gz": gzip.compress(content),
        "c.jsonl.gz": gzip.compress(content[:9000]) + gzip.compress(content[9000:]),
        "d.jsonl.zst": zstd,
    }.items():
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name) == ([f"document {i}" for i in range(2000)], []), name


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_truncated_archive_is_an_error(tmp_path, codec):
    data = pyarrow.compress(
        b"".join(b'{"text": "document %d"}\n' % i for i in range(2000)), codec=codec, asbytes=True
    )
    path = tmp_path / f"x.jsonl.{ {'gzip': 'gz', 'zstd': 'zst'}[codec] }"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=path.name):
        read(path)


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, content in {
        "a.jsonl": GOOD,
        "b.csv": b"text\ngood",
        "c.txt": b"good",
    }.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
        assert read(tmp_path / name) == (["good"], [])


def test_ids_may_be_numbers_or_missing(write_jsonl):
    path = write_jsonl([{"id": 7, "text": "a"}, {"text": "b"}, {"id": None, "text": "c"}])
    ids = [document.id for document in iter_documents(path)]
    assert ids == ["7", "documents.jsonl:2", "documents.jsonl:3"]


def test_csv_cells_are_long_and_span_lines(tmp_path):
    path = tmp_path / "x.csv"
    long = "word " * 120_000
    path.write_text(f'id,text\n1,"one\r\ntwo ""quoted"""\n2,"{long}"\n', encoding="utf-8")
    assert list(iter_documents(path)) == [
        Document("1", 'one\r\ntwo "quoted"'),
        Document("2", long),
    ]


def test_bad_csv_rows_are_skipped_at_their_first_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'id,text\n1,"a\nb"\n2,"\xff\nx"\n3\n4,nul\x00\n5,good\n')
    assert read(path) == (
        ["a\nb", "good"],
        [(4, "invalid UTF-8"), (6, "not as many cells as the header"), (7, "NUL")],
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,rent, fees, and taxes", "not as many cells as the header"),
        ('1,"rent, fees", and taxes', "not as many cells as the header"),
        ("1", "not as many cells as the header"),
        ("rent", "not as many cells as the header"),
        ("1,rent,", "not as many cells as the header"),
        ("", "empty"),
        (",,,", "empty"),
        ("1,", "empty"),
    ],
)
def test_no_part_of_a_csv_row_is_lost_in_silence(tmp_path, row, reason):
    """A comma in a text that is not quoted makes a cell more; its text is told, not cut."""
    path = tmp_path / "x.csv"
    path.write_text(f'id,text\n{row}\n2,"rent, fees, and taxes"\n', encoding="utf-8")
    assert read(path) == (["rent, fees, and taxes"], [(2, reason)])


def test_a_quote_that_is_never_closed_is_an_error_with_its_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id,text\n1,fine\n2,"open\n' + "x\n" * 10, encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.csv:3: not CSV"):
        read(path)


def test_a_text_column_that_is_there_twice_is_an_error(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,text\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="more than one column 'text'"):
        read(path)


def test_text_files(tmp_path):
    (tmp_path / "bad.md").write_bytes(b"\xff")
    (tmp_path / "long.txt").write_bytes(b"x" * ((1 << 20) + 1))
    (tmp_path / "whole.txt").write_bytes(b"one\r\n\r\ntwo")
    assert read(tmp_path, max_line_mb=1) == (
        ["one\r\n\r\ntwo"],
        [(1, "invalid UTF-8"), (1, "too long")],
    )


def test_rows_survive_a_round_trip(write_jsonl):
    texts = ["ﬁ ligature", "emoji 🙂", "line\u2028separator", "tab\tand \\ back", "a\x85b"]
    path = write_jsonl([{"text": text} for text in texts])
    assert read(path) == (texts, [])
    path.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts),
        encoding="utf-8",
    )
    assert read(path) == (texts, [])


READS_A_GIGABYTE = """
import resource, sys
from kl3m_embeddings.data.readers.documents import iter_documents

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
skipped = []
documents = list(iter_documents(sys.argv[1], on_skip=skipped.append))
grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
assert [document.text for document in documents] == ["before", "after"], documents
assert [(skip.line, skip.reason) for skip in skipped] == [(2, "too long")], skipped
assert grown_mb < 400, grown_mb
"""


def test_a_line_of_one_gigabyte(tmp_path):
    """It is skipped, counted, and never held in memory."""
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        file.seek(2**30, 1)  # a hole: it takes no room on the disk, and reads as a gigabyte
        file.write(b'"}\n{"text": "after"}\n')
    subprocess.run([sys.executable, "-c", READS_A_GIGABYTE, str(path)], check=True)
