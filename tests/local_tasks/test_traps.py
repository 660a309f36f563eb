"""Each trap of a file of text, whichever way the file comes in: read rightly, counted, or one line.

Documents, pairs (held-out pairs are read as these are), a table that a task is made of, and a task
folder, in which a row that cannot be read is an error.
"""

import gzip
import json
import zlib
from collections import Counter

import pyarrow as pa
import pytest

from kl3m_embeddings.errors import DataError, UserError
from tests.local_tasks.ways_in import documents, folder, pairs, task_table

BOM = b"\xef\xbb\xbf"
FIRST = b'{"query": "q1", "positive": "p1"}\n'
LAST = b'{"query": "q2", "positive": "p2"}\n'
BOTH = ["p1", "p2"]
WHOLE = "query,positive\nq1,p1\nq2,p2\n"
HALVES = WHOLE[:20].encode(), WHOLE[20:].encode()
CELLS = "not as many cells as the header"


def jsonl(line):
    return FIRST + line + b"\n" + LAST


def csv(row):
    return b"query,positive\nq1,p1\n" + row + b"\nq2,p2\n"


def tsv(row):
    return b"query\tpositive\nq1\tp1\n" + row + b"\nq2\tp2\n"


def pair(value):
    return jsonl(b'{"query": "q", "positive": ' + value + b"}")


# name of the trap: suffix, content, the texts that are right, and the reasons of rows left out
ROWS = {
    "jsonl: a mark of UTF-8": (".jsonl", BOM + FIRST + LAST, BOTH, []),
    "jsonl: a mark of UTF-8 amid": (".jsonl", FIRST + BOM + LAST, BOTH, []),
    "jsonl: CRLF": (".jsonl", (FIRST + LAST).replace(b"\n", b"\r\n"), BOTH, []),
    "jsonl: no last line feed": (".jsonl", FIRST + LAST[:-1], BOTH, []),
    "jsonl: blank lines": (".jsonl", FIRST + b"\n \t\n" + LAST + b"\n", BOTH, ["empty"] * 3),
    "jsonl: bytes that are no UTF-8": (".jsonl", pair(b'"\xff"'), BOTH, ["invalid UTF-8"]),
    "jsonl: Latin-1": (".jsonl", pair('"café"'.encode("latin-1")), BOTH, ["invalid UTF-8"]),
    "jsonl: a lone surrogate": (".jsonl", pair(b'"\\ud800"'), BOTH, ["invalid UTF-8"]),
    "jsonl: a pair of surrogates": (".jsonl", pair(b'"\\ud83d\\ude00"'), ["p1", "😀", "p2"], []),
    "jsonl: a NUL byte": (".jsonl", pair(b'"a\0b"'), BOTH, ["NUL"]),
    "jsonl: an escaped NUL": (".jsonl", pair(b'"a\\u0000"'), BOTH, ["NUL"]),
    "jsonl: NaN": (".jsonl", pair(b"NaN"), BOTH, ["NaN or Infinity"]),
    "jsonl: Infinity": (".jsonl", pair(b"-Infinity"), BOTH, ["NaN or Infinity"]),
    "jsonl: a key twice": (".jsonl", pair(b'"a", "positive": "b"'), BOTH, ["duplicate key"]),
    "jsonl: nested too deep": (".jsonl", pair(b"[" * 99999), BOTH, ["not JSON"]),
    "jsonl: 5,000 digits": (".jsonl", pair(b"1" * 5000), BOTH, ["not JSON"]),
    "jsonl: too long": (".jsonl", pair(b'"%s"' % (b"x" * (1 << 20))), BOTH, ["too long"]),
    "jsonl: a line of an array": (
        ".jsonl",
        FIRST + LAST[:-1] + b",\n" + LAST,
        BOTH,
        ["of a JSON array, not one object a line"],
    ),
    "jsonl: two objects on a line": (
        ".jsonl",
        jsonl(b'{"query": "q", "positive": "a"} {"query": "r", "positive": "b"}'),
        BOTH,
        ["more than one JSON value on the line"],
    ),
    "jsonl: a list": (".jsonl", jsonl(b'["q", "p"]'), BOTH, ["not a JSON object"]),
    "csv: a mark of UTF-8": (".csv", BOM + WHOLE.encode(), BOTH, []),
    "csv: joined files": (".csv", csv(BOM + b"query,positive"), BOTH, ["the header again"]),
    "csv: CRLF": (".csv", WHOLE.replace("\n", "\r\n").encode(), BOTH, []),
    "csv: a header with blanks": (".csv", WHOLE.replace(",", ", ", 1).encode(), BOTH, []),
    "csv: a column without a name": (".csv", b"query,positive,,\nq1,p1,,\nq2,p2,,\n", BOTH, []),
    "csv: a comma behind each row": (".csv", csv(b"q,p,"), BOTH, [CELLS]),
    "csv: a comma in a text": (".csv", csv(b"q,rent, fees"), BOTH, [CELLS]),
    "csv: a cell too few": (".csv", csv(b"q"), BOTH, [CELLS]),
    "csv: blank lines": (".csv", csv(b"\n"), BOTH, ["empty"] * 2),
    "csv: a doubled quote": (".csv", csv(b'q,"a ""b"""'), ["p1", 'a "b"', "p2"], []),
    "csv: a line feed in quotes": (".csv", csv(b'q,"a\r\nb"'), ["p1", "a\r\nb", "p2"], []),
    "csv: a quote within": (".csv", csv(b'q,6" pipe'), ["p1", '6" pipe', "p2"], []),
    "csv: bytes that are no UTF-8": (".csv", csv(b"q,caf\xe9"), BOTH, ["invalid UTF-8"]),
    "csv: a NUL byte": (".csv", csv(b"q,a\0"), BOTH, ["NUL"]),
    "csv: a long cell": (".csv", csv(b"q," + b"x" * 200_000), ["p1", "x" * 200_000, "p2"], []),
    "tsv: a mark of UTF-8": (".tsv", BOM + tsv(b"q\tp"), ["p1", "p", "p2"], []),
    "tsv: CRLF": (".tsv", tsv(b"q\tp").replace(b"\n", b"\r\n"), ["p1", "p", "p2"], []),
    "tsv: a tab in quotes": (".tsv", tsv(b'q\t"a\tb"'), BOTH, [CELLS]),
    "tsv: a quote that is never closed": (".tsv", tsv(b'q\t"a'), ["p1", '"a', "p2"], []),
    "tsv: bytes that are no UTF-8": (".tsv", tsv(b"q\t\xff"), BOTH, ["invalid UTF-8"]),
    "tsv: blank lines": (".tsv", tsv(b""), BOTH, ["empty"]),
    "gz: members end to end": (".csv.gz", b"".join(map(gzip.compress, HALVES)), BOTH, []),
    "zst": (".csv.zst", pa.compress(WHOLE.encode(), codec="zstd", asbytes=True), BOTH, []),
}  # fmt: skip

# name of the trap: suffix, content, and the line that names the file and what is wrong
FILES = {
    "csv: UTF-16": (".csv", WHOLE.encode("utf-16"), "is UTF-16, not UTF-8: save it as UTF-8"),
    "csv: UTF-16, big end first": (".csv", b"\xfe\xff" + WHOLE.encode("utf-16-be"), "is UTF-16"),
    "csv: UTF-16 without a mark": (".csv", WHOLE.encode("utf-16-le"), "is UTF-16"),
    "tsv: UTF-16": (".tsv", tsv(b"").decode().encode("utf-16"), "is UTF-16"),
    "jsonl: UTF-16": (".jsonl", FIRST.decode().encode("utf-16"), "is UTF-16"),
    "csv: bare carriage returns": (".csv", WHOLE.replace("\n", "\r").encode(), "carriage return"),
    "tsv: bare carriage returns": (".tsv", tsv(b"").replace(b"\n", b"\r"), "carriage return"),
    "jsonl: bare carriage returns": (
        ".jsonl",
        (FIRST + LAST).replace(b"\n", b"\r"),
        "more than one JSON value on the line",
    ),
    "csv: semicolons": (".csv", WHOLE.replace(",", ";").encode(), "cells parted by ';'"),
    "csv: tabs": (".csv", tsv(b""), r"cells parted by '\\t'"),
    "tsv: commas": (".tsv", WHOLE.encode(), "cells parted by ','"),
    "csv: a column twice": (".csv", b"query,positive,positive\nq,a,b\n", "more than one column"),
    "csv: a blank first line": (".csv", b"\n" + WHOLE.encode(), ":1: no header: name the columns"),
    "csv: a quote that is never closed": (".csv", csv(b'q,"open'), ":3: not CSV: .* never closed"),
    "csv: a cell without end": (".csv", csv(b'q,"' + b"x\n" * (40 << 20)), ":3: not CSV: .* limit"),
    "jsonl: an array over lines": (
        ".jsonl",
        json.dumps([{"query": "q", "positive": "p"}] * 3, indent=1).encode(),
        "(not JSON.*)?of a JSON array, not one object a line",
    ),
    "jsonl: an array on a line": (
        ".jsonl",
        json.dumps([{"query": "q", "positive": "p"}] * 3).encode(),
        "of a JSON array, not one object a line",
    ),
    "gz: broken off": (".csv.gz", gzip.compress(WHOLE.encode() * 999)[:-40], "cannot be read"),
    "gz: something behind it": (".csv.gz", gzip.compress(WHOLE.encode()) + b"x", "cannot be read"),
    "gz: not compressed": (".csv.gz", WHOLE.encode(), "cannot be read"),
    "gz: zlib": (".csv.gz", zlib.compress(WHOLE.encode())[2:-4], "cannot be read"),
}


def cases(table, *ways):
    found = []
    for name, case in table.items():
        for way in ways:
            if way is documents and ".tsv" in case[0]:
                continue  # no documents
            if way is task_table and "too long" in name:
                continue  # its lines may be longer
            marks = [pytest.mark.slow] if "without end" in name else []  # 80 MB
            found.append(pytest.param(way, *case, id=f"{way.__name__}: {name}", marks=marks))
    return found


@pytest.mark.parametrize(
    ("way", "suffix", "content", "texts", "reasons"), cases(ROWS, documents, pairs, task_table)
)
def test_rows_are_read_rightly_or_counted(tmp_path, way, suffix, content, texts, reasons):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert way(path) == (texts, Counter(reasons))


def as_labels(suffix, content):
    """The same file of texts with labels."""
    plain = content
    if suffix.endswith(".gz"):
        plain = gzip.decompress(content)
    elif suffix.endswith(".zst"):
        plain = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    plain = plain.replace(b"query", b"label").replace(b"positive", b"text")
    return suffix.removesuffix(".gz").removesuffix(".zst"), plain


@pytest.mark.parametrize(
    ("suffix", "content", "texts", "reasons"),
    [pytest.param(*case, id=name) for name, case in ROWS.items() if "too long" not in name],
)
def test_in_a_task_folder_a_row_that_is_no_row_is_an_error(
    tmp_path, suffix, content, texts, reasons
):
    faults = [reason for reason in reasons if reason != "empty"]
    suffix, content = as_labels(suffix, content)
    if not faults:
        assert folder(tmp_path / "task", suffix, content) == texts
        return
    with pytest.raises(DataError, match=faults[0]) as error:
        folder(tmp_path / "task", suffix, content)
    assert "\n" not in str(error.value) and f"test{suffix}:" in str(error.value)


def empty_build(path):
    """What a build says of a file without a document: the reasons."""
    found, reasons = documents(path)
    assert not found
    raise DataError(f"{path}: {reasons}")


@pytest.mark.parametrize(
    ("way", "suffix", "content", "message"), cases(FILES, documents, pairs, task_table)
)
def test_what_no_row_can_be_read_of_is_one_line(tmp_path, way, suffix, content, message):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    way = empty_build if way is documents else way
    with pytest.raises(UserError, match=rf"x\{suffix}.*{message}") as error:
        way(path)
    assert "\n" not in str(error.value)
