"""Folders of each type as they are read, and one line for each thing that is wrong."""

import gzip
import json
import re
from pathlib import Path

import pytest

from kl3m_embeddings.errors import ConfigError, DataError
from kl3m_embeddings.local_tasks.folder import read_local_task
from kl3m_embeddings.local_tasks.settings import SCORES, LocalTaskSettings
from tests.benchmark.folders import (
    WRITERS,
    candidate_rows,
    labelled_rows,
    pair_rows,
    ranking_rows,
    write_rows,
)


def make(path, kind, **fields):
    return WRITERS[kind](path / kind.lower(), **fields)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["Retrieval", "Reranking"])
def test_rankings(tmp_path, kind):
    content = read_local_task(make(tmp_path, kind)).content
    documents, queries, grades = ranking_rows()
    assert content.documents == {row["_id"]: (row["title"], row["text"]) for row in documents}
    assert content.queries == {row["_id"]: row["text"] for row in queries}
    found = [
        (query, document, grade)
        for query, of_query in content.judgements.items()
        for document, grade in of_query.items()
    ]
    assert found == grades
    rows = {row["query-id"]: row["corpus-ids"] for row in candidate_rows()}
    assert content.candidates == (rows if kind == "Reranking" else None)


@pytest.mark.parametrize(("kind", "key"), [("STS", "score"), ("PairClassification", "label")])
def test_pairs(tmp_path, kind, key):
    content = read_local_task(make(tmp_path, kind)).content
    expected = [(row["sentence1"], row["sentence2"], row[key]) for row in pair_rows(key)]
    assert list(zip(content.first, content.second, content.values, strict=True)) == expected


@pytest.mark.parametrize("kind", ["Classification", "Clustering"])
def test_labels(tmp_path, kind):
    content = read_local_task(make(tmp_path, kind)).content
    rows = labelled_rows(20, 1) if kind == "Classification" else labelled_rows(30)
    assert content.texts == [row["text"] for row in rows]
    assert content.labels == [row["label"] for row in rows]
    assert (content.train is not None) == (kind == "Classification")
    if content.train:
        assert content.train.texts == [row["text"] for row in labelled_rows(36)]


def test_any_type_of_file_compressed_or_not(tmp_path):
    folder = make(tmp_path, "STS")
    expected = read_local_task(folder).content
    rows = rows_of(folder / "test.jsonl")
    (folder / "test.jsonl").unlink()
    texts = {
        separator: "\n".join(
            separator.join(map(str, row)) for row in [list(rows[0]), *map(dict.values, rows)]
        )
        for separator in ",\t"
    }
    for name, content in (
        ("test.csv", texts[","].encode()),
        ("test.tsv", texts["\t"].encode()),
        ("test.csv.gz", gzip.compress(texts[","].encode())),
    ):
        (folder / name).write_bytes(content)
        assert read_local_task(folder).content == expected
        (folder / name).unlink()


def test_numbers_as_ids_and_labels_are_text(tmp_path):
    folder = make(tmp_path, "Clustering")
    write_rows(folder / "test.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    assert read_local_task(folder).content.labels == ["1", "2"]


@pytest.mark.parametrize("kind", WRITERS)
def test_the_hash_is_of_every_file_and_of_no_place(tmp_path, kind):
    folder = make(tmp_path, kind)
    before = read_local_task(folder).sha256
    assert read_local_task(make(tmp_path / "moved", kind)).sha256 == before
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == {"Retrieval": 4, "Reranking": 5, "Classification": 3}.get(kind, 2)
    for path in files:
        text = path.read_text()
        path.write_text(text.replace('": ', '":  ', 1) if path.suffix == ".jsonl" else text + "\n")
        assert read_local_task(folder).sha256 != before
        path.write_text(text)
    assert read_local_task(folder).sha256 == before


def test_prompts(tmp_path):
    def prompts(**fields):
        return LocalTaskSettings(name="a", type="STS", **fields).prompts()

    assert prompts() is None
    assert prompts(prompt="x: ") == {"query": "x: ", "document": "x: "}
    assert prompts(prompt={"query": "x: "}) == {"query": "x: "}
    assert prompts(prompt="") == {"query": "", "document": ""}


@pytest.mark.parametrize("kind", SCORES)
def test_the_main_score_is_one_of_the_types(kind):
    assert LocalTaskSettings(name="a", type=kind).score == SCORES[kind][0]
    assert (
        LocalTaskSettings(name="a", type=kind, main_score=SCORES[kind][-1]).score
        == SCORES[kind][-1]
    )
    with pytest.raises(ValueError, match=f"{kind} has no 'roc'"):
        LocalTaskSettings(name="a", type=kind, main_score="roc")


SETTINGS = [
    ({"nmae": "x"}, "nmae: unknown key .did you mean name?."),
    ({"type": "Sts"}, "type: "),
    ({"type": None}, "type: "),
    ({"name": "a/b"}, "name: "),
    ({"name": ".."}, "name: "),
    ({"split": "a/b"}, "split: "),
    ({"split": "dev"}, "no dev file"),
    ({"main_score": "ndcg"}, "main_score: STS has no 'ndcg'"),
    ({"prompt": {"querry": "x"}}, "prompt"),
    ({"samples_per_label": 0}, "samples_per_label: "),
    ({"num_experiments": 1.5}, "num_experiments: "),
]


@pytest.mark.parametrize(("fields", "message"), SETTINGS)
def test_a_wrong_setting_is_named(tmp_path, fields, message):
    folder = make(tmp_path, "STS")
    path = folder / "task.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        read_local_task(folder)
    assert str(folder) in str(caught.value)


def test_without_settings_it_is_no_task(tmp_path):
    with pytest.raises(ConfigError, match=r"task\.json: no such file: give a folder with a task"):
        read_local_task(tmp_path)
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(ConfigError, match=r"task\.json"):
        read_local_task(tmp_path)


def replaced(path, **changes):
    """The first row with other values; None: without the key."""
    first, *others = rows_of(path)
    row = {key: value for key, value in (first | changes).items() if value is not None}
    write_rows(path, [row, *others])


def every(path, **changes):
    write_rows(path, [row | changes for row in rows_of(path)])


def qrels(folder, text):
    (folder / "qrels" / "test.tsv").write_text(text)


def all_right(folder):
    queries, documents = (rows_of(folder / f"{name}.jsonl") for name in ("queries", "corpus"))
    pairs = [(query["_id"], document["_id"]) for query in queries for document in documents]
    qrels(folder, "".join(f"{query}\t{document}\t1\n" for query, document in pairs))


def right_candidates(folder):
    """A document that is wrong for a query is none of its candidates."""
    all_right(folder)
    wrong = {"_id": "wrong", "title": "", "text": "of no query"}
    write_rows(folder / "corpus.jsonl", [*rows_of(folder / "corpus.jsonl"), wrong])


def four_labels_by_ap(folder):
    settings = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(settings | {"main_score": "ap"}))
    rows = rows_of(folder / "train.jsonl")
    write_rows(folder / "train.jsonl", [*rows, *(row | {"label": "third"} for row in rows)])


FAULTS = [
    ("STS", lambda f: (f / "test.jsonl").unlink(), "no test file .* for test: one is needed"),
    ("STS", lambda f: (f / "test.csv").write_text("a\n"), "several files for test: test.csv, test"),
    ("STS", lambda f: (f / "test.jsonl").write_text(""), r"test\.jsonl: is empty: there is noth"),
    ("STS", lambda f: (f / "test.jsonl").write_text("{\n"), r"test\.jsonl:1: .*: mend the row"),
    ("STS", lambda f: replaced(f / "test.jsonl", score="high"), ":1: score: 'high' is not a num"),
    ("STS", lambda f: replaced(f / "test.jsonl", score="nan"), ":1: score: 'nan' is not a number"),
    ("STS", lambda f: replaced(f / "test.jsonl", score="inf"), ":1: score: 'inf' is not a number"),
    ("STS", lambda f: replaced(f / "test.jsonl", score=[1]), r":1: score: \[1\] is not a number"),
    ("STS", lambda f: replaced(f / "test.jsonl", score=None), ":1: no 'score' among 'sentence1'"),
    ("STS", lambda f: replaced(f / "test.jsonl", sentence1=" "), ":1: sentence1: empty: mend"),
    ("STS", lambda f: replaced(f / "test.jsonl", sentence2=3), ":1: sentence2: must be a text"),
    ("STS", lambda f: every(f / "test.jsonl", score=1), "every score of test is 1: nothing to tel"),
    ("PairClassification", lambda f: every(f / "test.jsonl", label=0), "every label of test is 0"),
    ("PairClassification", lambda f: replaced(f / "test.jsonl", label=2), ":1: label: 2 is nei"),
    ("Classification", lambda f: every(f / "test.jsonl", label="a"), "every label of test is 'a'"),
    ("Classification", lambda f: every(f / "train.jsonl", label="a"), "every label of train is"),
    ("Classification", lambda f: replaced(f / "test.jsonl", label="new"), "label 'new' of test is"),
    ("Classification", lambda f: (f / "train.jsonl").unlink(), "no train file"),
    ("Classification", four_labels_by_ap, "main_score: 'ap' is of two labels, and there are 4"),
    ("Clustering", lambda f: every(f / "test.jsonl", label="a"), "every label of test is 'a'"),
    ("Retrieval", lambda f: (f / "corpus.jsonl").write_text(""), r"corpus\.jsonl: is empty"),
    ("Retrieval", lambda f: (f / "queries.jsonl").unlink(), "no queries file"),
    ("Retrieval", lambda f: (f / "qrels" / "test.tsv").unlink(), "no test file .* for qrels/test"),
    ("Retrieval", lambda f: replaced(f / "corpus.jsonl", _id="d1"), ":2: _id 'd1' is there twice"),
    ("Retrieval", lambda f: replaced(f / "queries.jsonl", text=""), ":1: text: empty"),
    ("Retrieval", lambda f: replaced(f / "corpus.jsonl", title=["a"]), ":1: title: must be a text"),
    ("Retrieval", lambda f: replaced(f / "corpus.jsonl", title=0), ":1: title: must be a text"),
    ("Retrieval", lambda f: qrels(f, "q1\td99\t1\n"), r"test\.tsv:1: 'd99' is not in corpus"),
    ("Retrieval", lambda f: qrels(f, "q99\td1\t1\n"), r"test\.tsv:1: 'q99' is not in queries"),
    ("Retrieval", all_right, "every document is right for every query: nothing to tell apart"),
    ("Retrieval", lambda f: qrels(f, "q1\td1\t1e30\n"), r"test\.tsv:1: not a judgement"),
    ("Retrieval", lambda f: replaced(f / "corpus.jsonl", _id=["d"]), ":1: _id: must be a text or"),
    ("Reranking", right_candidates, "every document is right for every query"),
    ("Reranking", lambda f: (f / "candidates.jsonl").unlink(), "no candidates file"),
    ("Reranking", lambda f: replaced(f / "candidates.jsonl", **{"query-id": "x"}), "no candidates"),
    ("Reranking", lambda f: replaced(f / "candidates.jsonl", **{"corpus-ids": ["x"]}), "'x' is"),
    ("Reranking", lambda f: replaced(f / "candidates.jsonl", **{"corpus-ids": []}), "must be a l"),
    ("Reranking", lambda f: replaced(f / "candidates.jsonl", **{"query-id": "q1"}), "'q1' is t"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spoil", "message"), FAULTS)
def test_what_cannot_be_scored_is_told_in_one_line(tmp_path, kind, spoil, message):
    folder = make(tmp_path, kind)
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        read_local_task(folder)
    assert re.match(re.escape(str(folder)), str(caught.value))
    assert "\n" not in str(caught.value)


def test_docs_tasks_md_has_every_setting_with_its_default():
    document = (Path(__file__).parents[2] / "docs" / "local-tasks.md").read_text(encoding="utf-8")
    section = document.partition("### task.json")[2].partition("###")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    found = {row[0].strip("`"): row[1].strip("`") for row in rows[4:] if row}
    expected = {
        name: "" if field.is_required() else json.dumps(field.default)
        for name, field in LocalTaskSettings.model_fields.items()
    }
    assert found == expected


def test_docs_tasks_md_has_every_type_with_its_main_score():
    document = (Path(__file__).parents[2] / "docs" / "local-tasks.md").read_text(encoding="utf-8")
    for kind, scores in SCORES.items():
        (line,) = re.findall(rf"^\| {kind} \|.*`{scores[0]}`.*\|$", document, flags=re.MULTILINE)
        assert line
