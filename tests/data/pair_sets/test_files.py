import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from kl3m_embeddings.data.pair_sets.files import PairReader, list_pair_files
from kl3m_embeddings.data.pair_sets.formats import PairRow
from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.errors import DataError

GOOD = {"query": "q", "positive": "p"}


def read(path, reader=None):
    """The file's pairs, and (line, reason) of what was skipped."""
    (file,) = list_pair_files(path)
    reader = reader or PairReader(file, ReadOptions(max_line_mb=1))
    rows = list(reader.rows())
    pairs = [row for row in rows if isinstance(row, PairRow)]
    return pairs, [row[1:] for row in rows if not isinstance(row, PairRow)]


def texts(pairs):
    return [(row.query, row.positives, row.negatives) for row in pairs]


@pytest.fixture
def write(tmp_path):
    def write(content, name="x.jsonl"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


ROWS = [
    {"anchor": 'an "a", and\ta', "positive": "p", "negative_1": "n", "negative_2": "m", "id": 1},
    {"anchor": "b", "positive": "r", "negative_1": "o", "negative_2": None, "id": 2},
]
EXPECTED = [('an "a", and\ta', ("p",), ("n", "m")), ("b", ("r",), ("o",))]


def write_rows(path):
    """Write `ROWS` in the format that the name says."""
    names = list(ROWS[0])
    if ".jsonl" in path.name:
        content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        if path.suffix == ".zst":
            with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(content)
    elif path.suffix == ".csv":
        lines = [",".join(names), '"an ""a"", and\ta",p,n,m,1', "b,r,o,,2"]
        path.write_text("\n".join(lines) + "\n")
    else:
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".parquet"])
def test_all_file_types_read_alike(tmp_path, suffix):
    path = tmp_path / f"pairs{suffix}"
    write_rows(path)
    (file,) = list_pair_files(path)
    reader = PairReader(file, ReadOptions())
    pairs, skipped = read(path, reader)
    assert (texts(pairs), skipped) == (EXPECTED, [])
    assert reader.pair_format.name.startswith("sentence-transformers (anchor")
    assert reader.ignored_keys == {"id"}


def test_parquet_lists_and_scores(tmp_path):
    rows = [{"query": "q", "pos": ["p"], "neg": ["n", "m"], "neg_scores": [1.0, 2.0], "x": [0.5]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    (row,), _ = read(tmp_path / "x.parquet")
    assert (row.positives, row.negatives, row.negative_scores) == (("p",), ("n", "m"), (1.0, 2.0))


def test_invalid_text_in_parquet_costs_its_row_only(tmp_path):
    broken = pyarrow.array([b"q", b"\xff"]).cast(pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"query": broken, "positive": ["p", "r"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    pairs, skipped = read(tmp_path / "x.parquet")
    assert (texts(pairs), skipped) == ([("q", ("p",), ())], [(2, "invalid UTF-8")])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"query": "q", "positive": "p"', "not JSON"),
        (b'{"query": "q", "positive": "p", "x": NaN}', "NaN or Infinity"),
        (b'{"query": "q", "query": "r", "positive": "p"}', "duplicate key"),
        (b'["query"]', "not a JSON object"),
        (b'{"query": "\xff", "positive": "p"}', "invalid UTF-8"),
        (b'{"query": "q"}', "no positive"),
        (b'{"positive": "p"}', "no query"),
        (b"{}", "no query"),
    ],
)
def test_a_bad_line_is_skipped_and_reading_goes_on(write, line, reason):
    good = json.dumps(GOOD).encode()
    pairs, skipped = read(write(good + b"\n" + line + b"\n" + good))
    assert (len(pairs), skipped) == (2, [(2, reason)])


def test_the_first_row_may_be_bad(write):
    pairs, skipped = read(write('{"query": "q"}\n' + json.dumps(GOOD)))
    assert (texts(pairs), skipped) == ([("q", ("p",), ())], [(1, "no known format")])


@pytest.mark.parametrize(
    "other", [{"query": "q", "doc": "p"}, {**GOOD, "label": 0}, {**GOOD, "neg": []}]
)
def test_mixed_formats_are_an_error_that_names_the_line(write, other):
    path = write(json.dumps(GOOD) + "\n" + json.dumps(other))
    with pytest.raises(DataError, match=r"x\.jsonl:2: '\w+' is no key of nixietune"):
        read(path)


def test_unknown_columns_are_named(write):
    with pytest.raises(DataError, match=r"x\.csv:2: no known format has the keys 'a', 'b'; known"):
        read(write("a,b\n1,2\n", "x.csv"))
    reasons = r"1 no known format; the first keys are 'sentence1', 'sentence2'"
    with pytest.raises(DataError, match=rf"x\.jsonl: no row is of a known .*{reasons}"):
        read(write('{"sentence1": "a", "sentence2": "b"}'))
    with pytest.raises(DataError, match=r"x\.jsonl: there are no rows in it"):
        read(write(""))


def test_a_headless_file_does_not_flood_the_screen(write):
    with pytest.raises(DataError) as error:
        read(write(f"{'x' * 10_000}\tb\n1\t2\n", "x.tsv"))
    assert len(str(error.value)) < 500


def test_tsv_has_no_quotes_and_bad_rows_are_counted(write):
    content = b'label\tsentence1\tsentence2\n1\t"a\tb"\n0\t\xff\tx\n\n1\tc\n0.5\td\te\r\nno\tf\tg\n'
    pairs, skipped = read(write(content, "x.tsv"))
    assert texts(pairs) == [('"a', ('b"',), ()), ("d", ("e",), ())]
    assert [row.label for row in pairs] == [1.0, 0.5]
    assert skipped == [
        (3, "invalid UTF-8"),
        (4, "empty"),
        (5, "not as many cells as the header"),
        (7, "label or score is not a number"),
    ]


def test_csv_cells_may_hold_lines_and_rows_know_theirs(write):
    pairs, skipped = read(write('query,positive\n"a\nb",c\nd\ne,f\n', "x.csv"))
    assert [(row.query, row.line) for row in pairs] == [("a\nb", 2), ("e", 5)]
    assert skipped == [(4, "not as many cells as the header")]
    with pytest.raises(DataError, match=r"x\.csv:2: not CSV"):
        read(write('query,positive\n"a,b\n', "x.csv"))


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_a_column_that_is_there_twice_is_an_error(write, name):
    separator = "\t" if name == "x.tsv" else ","
    with pytest.raises(DataError, match="more than one column 'query'"):
        read(write(separator.join(["query", "query", "positive"]) + "\n", name))


def test_files_are_found_in_a_fixed_order(tmp_path):
    for name in ("b/x.jsonl", "a/y.csv", "a/z.md", "a/.hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in list_pair_files(tmp_path)] == ["a/y.csv", "b/x.jsonl"]
    assert [file.name for file in list_pair_files(str(tmp_path / "*" / "*.csv"))] == ["a/y.csv"]
    for path in ("a/z.md", "none.jsonl", "a/*.md"):
        with pytest.raises(DataError, match=r"no such file|known type"):
            list_pair_files(tmp_path / path)
