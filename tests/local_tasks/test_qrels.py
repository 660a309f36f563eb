"""Judgements in either form, and everything that is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.errors import DataError
from kl3m_embeddings.local_tasks.qrels import read_qrels

QUERIES, DOCUMENTS = {"q1", "q2"}, {"d1", "d2"}
GRADES = {"q1": {"d1": 2, "d2": 0}, "q2": {"d2": 1}}
ROWS = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d2", 1)]


def read(path, text, queries=QUERIES, documents=DOCUMENTS):
    path.write_text(text, encoding="utf-8")
    return read_qrels(path, queries, documents)


def lines(rows, separator, header=""):
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


TREC = [(query, 0, document, grade) for query, document, grade in ROWS]


@pytest.mark.parametrize(
    "text",
    [
        lines(ROWS, "\t", "query-id\tcorpus-id\tscore\n"),
        lines(ROWS, "\t"),
        lines(ROWS, ",", "query-id,corpus-id,score\n"),
        lines(ROWS, " "),
        lines(TREC, " "),
        lines(TREC, "\t"),
        lines(ROWS, "\t").replace("\n", "\r\n"),
        lines(ROWS, "\t").rstrip(),
        "\n" + lines(ROWS, "\t") + "\n",
        "\n" + lines(ROWS, "\t", "query-id\tcorpus-id\tscore\n"),
        lines(ROWS, "\t").replace("\t2", "\t2.0"),
        lines(ROWS, ",").replace("q1", '"q1"'),
        lines([*ROWS, ROWS[0]], "\t"),  # said twice, the same
    ],
)
def test_every_form_says_the_same(tmp_path, text):
    assert read(tmp_path / "test.tsv", text) == GRADES


@pytest.mark.parametrize("separator", ["\t", ",", " "])
@pytest.mark.parametrize(
    ("header", "at_fault"),
    [
        (("query-id", "corpus-id", "score"), None),
        (("query_id", "iter", "doc_id", "relevance"), None),
        (("Topic", "0", "docno", "rel"), None),
        (("a", "b", "c"), None),
        (("corpus-id", "query-id", "score"), "column 1 is 'corpus-id'"),
        (("docid", "qid", "grade"), "column 1 is 'docid'"),
        (("query-id", "score", "corpus-id"), "column 2 is 'score'"),
        (("query-id", "corpus-id", "score", "iter"), "column 2 is 'corpus-id'"),
    ],
)
def test_columns_stand_where_they_are_read_from(tmp_path, separator, header, at_fault):
    """The ids are those of queries and of documents, and would be taken for either."""
    ids = {"1", "2", "3"}
    row = ("1", "0", "2", "3") if header[1] in ("iter", "0") else ("1", "2", "3")
    row = ("1", "2", "3", "0") if header[-1] == "iter" else row
    text = lines([header, row], separator)
    if separator == "," and len(header) > 3:
        text = text.replace(",", "\t")  # four cells are not parted by commas
    if at_fault is None:
        assert read(tmp_path / "test.tsv", text, ids, ids) == {"1": {"2": 3}}
    else:
        with pytest.raises(DataError, match=rf"test\.tsv:1: {at_fault}: put the columns"):
            read(tmp_path / "test.tsv", text, ids, ids)


IDS = st.text(
    st.characters(
        codec="utf-8", exclude_characters="\t\r\n\0", exclude_categories=("Cs", "Z", "C")
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50)
@given(st.dictionaries(st.tuples(IDS, IDS), st.integers(0, 3), min_size=1), st.sampled_from("\t,"))
def test_whatever_is_written_is_read(tmp_path_factory, grades, separator):
    import csv
    import io

    expected = {}
    for (query, document), grade in grades.items():
        expected.setdefault(query, {})[document] = grade
    expected = {query: found for query, found in expected.items() if max(found.values()) > 0}
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(("query-id", "corpus-id", "score"))
    writer.writerows((query, document, grade) for (query, document), grade in grades.items())
    path = tmp_path_factory.getbasetemp() / "written.tsv"
    queries, documents = ({pair[side] for pair in grades} for side in (0, 1))
    if not expected:
        with pytest.raises(DataError, match="no document is relevant to any query"):
            read(path, file.getvalue(), queries, documents)
    else:
        assert read(path, file.getvalue(), queries, documents) == expected


def test_queries_without_a_relevant_document_are_left_out(tmp_path):
    assert read(tmp_path / "q.tsv", "q1\td1\t0\nq2\td2\t1\nq2\td1\t-1\n") == {
        "q2": {"d2": 1, "d1": -1}
    }


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("q1\td1\t1\nq9\td1\t1\n", 2, "'q9' is not in queries: add it, or leave the row out"),
        ("q1\td9\t1\n", 1, "'d9' is not in corpus: add it, or leave the row out"),
        ("q1\td1\t1\nq1\td1\t2\n", 2, "'d1' has two grades for 'q1': keep one of them"),
        ("q1\td1\t1\nq1\td1\n", 2, "not a judgement: query-id, corpus-id and a whole number"),
        ("q1\td1\t1\nq1\td2\tgood\n", 2, "not a judgement"),
        ("q1\td1\t1\nq1\td2\t0.5\n", 2, "not a judgement"),
        ("q1\td1\t1\nq1\td2\tnan\n", 2, "not a judgement"),
        ("q1\td1\t1\nq1\td2\tinf\n", 2, "not a judgement"),
        ("q1\td1\t1\nq1 x y d2 1\n", 2, "not a judgement"),
        ("q1\td1\t0.5\nq2\td2\t1\n", 1, "not a judgement"),
        ("q1 d1\nq2 d2 1\n", 1, "not a judgement"),
        ("q1,d1,0.5\nq1,d2,1\n", 1, "not a judgement"),
        ("q1,d1,high\nq1,d2,1\n", 1, "not a judgement"),
        ("q1\td1\tgood\nq2\td2\t1\n", 1, "not a judgement"),
        ("query-id\tcorpus-id\tscore\nquery-id\tcorpus-id\tscore\n", 2, "not a judgement"),
    ],
)
def test_a_faulty_row_is_named(tmp_path, text, line, message):
    path = tmp_path / "test.tsv"
    with pytest.raises(DataError, match=message) as caught:
        read(path, text)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "query-id\tcorpus-id\tscore\n", "q1\td1\t0\n"])
def test_without_a_relevant_document_there_is_nothing_to_score(tmp_path, text):
    with pytest.raises(DataError, match="no document is relevant to any query: nothing to score"):
        read(tmp_path / "test.tsv", text)
