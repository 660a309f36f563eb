"""Tables become task folders that read as they should."""

import csv
import json

import numpy as np
import pytest

from kl3m_embeddings.errors import ConfigError, DataError, OutputError
from kl3m_embeddings.local_tasks.folder import read_local_task
from kl3m_embeddings.local_tasks.make import make_local_task


def write_table(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


def made(tmp_path, kind, rows, *, columns=None, name="table.jsonl", out="out", **options):
    table = write_table(tmp_path / name, rows)
    fields = {"name": "mine", "type": kind} | options.pop("fields", {})
    return make_local_task(table, tmp_path / out, fields, columns=columns or {}, **options)


QA = [
    {"question": "who", "answer": "she", "title": "T"},
    {"question": "what", "answer": "that", "title": ""},
    {"question": "who", "answer": "that", "title": ""},
    {"question": "who", "answer": "she", "title": "T"},
    {"question": "", "answer": "nothing", "title": ""},
]


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.jsonl"])
def test_retrieval(tmp_path, name):
    columns = {"query": "question", "document": "answer"}
    result = made(tmp_path, "Retrieval", QA, columns=columns, name=name)
    assert result.num_rows == 3
    assert result.left_out == {"repeated": 1, "empty": 1}
    content = result.task.content
    assert list(content.queries.values()) == ["who", "what"]
    assert list(content.documents.values()) == [("T", "she"), ("", "that")]
    named = {
        (content.queries[query], content.documents[document][1], grade)
        for query, of_query in content.judgements.items()
        for document, grade in of_query.items()
    }
    assert named == {("who", "she", 1), ("who", "that", 1), ("what", "that", 1)}
    assert read_local_task(tmp_path / "out") == result.task


def test_reranking(tmp_path):
    rows = [
        {"query": "a", "positive": ["p1", "p2"], "negative": ["n1", "n2"]},
        {"query": "b", "positive": "n1", "negative": ["p1"]},
        {"query": "b", "positive": "p2", "negative": ["n1", "n3"]},  # n1 is relevant all the same
    ]
    content = made(tmp_path, "Reranking", rows).task.content
    for query, expected in (
        ("a", {"p1": 1, "p2": 1, "n1": 0, "n2": 0}),
        ("b", {"n1": 1, "p1": 0, "p2": 1, "n3": 0}),
    ):
        (name,) = [name for name, text in content.queries.items() if text == query]
        grades = content.judgements[name]
        assert {content.documents[one][1]: grade for one, grade in grades.items()} == expected
        assert sorted(content.candidates[name]) == sorted(grades)


def test_ids_say_nothing_of_grades(tmp_path):
    """mteb ranks the higher of two tied ids first: positives must not be the higher ones."""
    rows = [
        {"query": f"q{n}", "positive": [f"p{n}"], "negative": [f"n{n} {m}" for m in range(3)]}
        for n in range(200)
    ]
    content = made(tmp_path, "Reranking", rows).task.content
    first = [
        of_query[sorted(content.candidates[query], reverse=reverse)[0]]
        for reverse in (False, True)
        for query, of_query in content.judgements.items()
    ]
    low, high = np.mean(first[:200]), np.mean(first[200:])
    assert 0.15 < low < 0.35
    assert 0.15 < high < 0.35
    listed = [
        of_query[content.candidates[query][0]] for query, of_query in content.judgements.items()
    ]
    assert 0.15 < np.mean(listed) < 0.35


@pytest.mark.parametrize(("kind", "key"), [("STS", "score"), ("PairClassification", "label")])
@pytest.mark.parametrize("name", ["table.csv", "table.jsonl"])
def test_pairs(tmp_path, kind, key, name):
    rows = [{"sentence1": f"a{n}", "sentence2": f"b{n}", key: n % 2} for n in range(4)]
    content = made(tmp_path, kind, rows, name=name).task.content
    assert content.first == [row["sentence1"] for row in rows]
    assert content.values == [0, 1, 0, 1]


LABELLED = [{"text": f"text {n}", "label": "xyz"[n % 3]} for n in range(60)]


def test_a_classification_is_split_once(tmp_path):
    whole = made(tmp_path, "Classification", LABELLED).task.content
    texts = {*whole.texts, *whole.train.texts}
    assert len(whole.texts) == len(whole.train.texts) == 30
    assert texts == {row["text"] for row in LABELLED}
    labels = {row["text"]: row["label"] for row in LABELLED}
    for part in (whole, whole.train):
        assert [labels[text] for text in part.texts] == part.labels
    again = made(tmp_path, "Classification", LABELLED, out="again").task.content
    assert again == whole
    other = made(tmp_path, "Classification", LABELLED, out="other", seed=1).task.content
    assert other != whole
    few = made(tmp_path, "Classification", LABELLED, out="few", test_share=0.1).task.content
    assert (len(few.texts), len(few.train.texts)) == (6, 54)


def test_a_label_that_cannot_be_learnt_is_not_scored(tmp_path):
    rows = [*LABELLED, {"text": "odd", "label": "once"}]
    for seed in range(4):
        result = made(tmp_path, "Classification", rows, out=f"out{seed}", seed=seed)
        content = result.task.content
        assert set(content.labels) <= set(content.train.labels)
        assert len(content.texts) + len(content.train.texts) + result.left_out.total() == 61
        assert set(result.left_out) <= {"of a label without examples to learn from"}


def test_a_table_to_learn_from(tmp_path):
    train = write_table(tmp_path / "train.csv", LABELLED[:20])
    content = made(tmp_path, "Classification", LABELLED[20:], train_table=train).task.content
    assert content.texts == [row["text"] for row in LABELLED[20:]]
    assert content.train.texts == [row["text"] for row in LABELLED[:20]]


def test_so_many_rows_are_kept_in_their_order(tmp_path):
    result = made(tmp_path, "Clustering", LABELLED, max_rows=20)
    texts = result.task.content.texts
    assert result.num_rows == 60
    places = [int(text.split()[1]) for text in texts]
    assert places == sorted(set(places)) and len(places) == 20 and places != list(range(20))
    more = made(tmp_path, "Clustering", LABELLED, max_rows=100, out="more").task.content
    assert len(more.texts) == 60


def test_settings_are_kept(tmp_path):
    fields = {"prompt": "x: ", "main_score": "ami", "split": "dev"}
    result = made(tmp_path, "Clustering", LABELLED, fields=fields)
    assert result.task.settings.score == "ami"
    assert (tmp_path / "out" / "dev.jsonl").is_file()
    assert json.loads((tmp_path / "out" / "task.json").read_text()) == {
        "name": "mine", "type": "Clustering", **fields,
    }  # fmt: skip


def test_an_unknown_column_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"--column querry=\.\.\.: unknown \(did you mean query"):
        made(tmp_path, "Retrieval", QA, columns={"querry": "question"})
    with pytest.raises(
        ConfigError,
        match=r"table\.jsonl:1: no column 'query' among 'question', .*: name it with --column",
    ):
        made(tmp_path, "Retrieval", QA, out="other")


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("Retrieval", {"query": ["a"], "document": "b"}),
        ("Retrieval", {"query": "a", "document": [["b"], "c"]}),
        ("STS", {"sentence1": {"a": 1}, "sentence2": "b", "score": 1}),
        ("Reranking", {"query": "a", "positive": [["b"]], "negative": "c"}),
        ("Clustering", {"text": "a", "label": ["b"]}),
    ],
)
def test_what_is_no_text_is_not_taken_for_one(tmp_path, kind, row):
    with pytest.raises(DataError, match=r"table\.jsonl:1: \w+: must be a text") as caught:
        made(tmp_path, kind, [row])
    assert "\n" not in str(caught.value)


def test_other_faults_are_told(tmp_path):
    with pytest.raises(DataError, match=r"table\.jsonl: no usable row in it"):
        made(tmp_path, "Retrieval", QA[4:], columns={"query": "question", "document": "answer"})
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        make_local_task(
            tmp_path / "none.csv", tmp_path / "o", {"name": "a", "type": "STS"}, columns={}
        )
    (tmp_path / "x.parquet").touch()
    with pytest.raises(DataError, match=r"x\.parquet: not a known type"):
        make_local_task(
            tmp_path / "x.parquet", tmp_path / "o", {"name": "a", "type": "STS"}, columns={}
        )
    with pytest.raises(ConfigError, match="type"):
        made(tmp_path, "Sts", LABELLED)
    same = [{"sentence1": f"a{n}", "sentence2": "b", "score": 1} for n in range(3)]
    with pytest.raises(DataError, match="every score of test is 1") as caught:
        made(tmp_path, "STS", same, out="alike")
    assert str(caught.value).startswith(f"{tmp_path / 'table.jsonl'}: {tmp_path / 'alike'}: every")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="full: is not empty: give a new folder"):
        made(tmp_path, "Clustering", LABELLED, out="full")
