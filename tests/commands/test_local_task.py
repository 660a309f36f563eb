"""`kl3m task`: a table becomes a folder, and what is in it is said."""

import json

import pytest
from typer.testing import CliRunner

from kl3m_embeddings.commands.local_task import app
from kl3m_embeddings.errors import ConfigError
from tests.benchmark.folders import WRITERS

ROWS = [
    {"question": "w1", "answer": "w2 w3", "id": 1},
    {"question": "w4", "answer": "w5", "id": 2},
    {"question": "", "answer": "w6", "id": 3},
]


LAST = {"question": "w7", "answer": "w8", "id": 4}


@pytest.fixture
def run():
    """Runs `kl3m task ...` in this process; its errors are raised."""

    def run(*arguments):
        command = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, command, catch_exceptions=False).stdout

    return run


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "faq.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


COLUMNS = ("--column", "query=question", "--column", "document=answer")


def test_a_table_is_made_a_task_and_its_content_is_told(run, table, tmp_path):
    folder = tmp_path / "Faq"
    printed = run("make", table, folder, "--type", "Retrieval", *COLUMNS, "--prompt", "find: ")
    assert f"{table}: 1 rows left out: " in printed
    assert "Faq: Retrieval, 2 queries, 2 documents, 2 judgements; main score ndcg_at_10" in printed
    settings = json.loads((folder / "task.json").read_text())
    assert {key: settings[key] for key in ("name", "type", "prompt")} == {
        "name": "Faq", "type": "Retrieval", "prompt": "find: "
    }  # fmt: skip


def test_name_score_and_number_of_rows_may_be_chosen(run, tmp_path):
    table = tmp_path / "longer.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS[:2], LAST]))
    options = ("--name", "Mine", "--main-score", "mrr_at_10", "--max-rows", 2)
    printed = run("make", table, tmp_path / "x", "--type", "Retrieval", *COLUMNS, *options)
    assert "Mine: Retrieval, 2 queries, " in printed
    assert printed.strip().endswith("main score mrr_at_10")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Retrieval", "9 queries, 24 documents, 54 judgements; main score ndcg_at_10"),
        ("Reranking", "9 queries, 24 documents, 54 judgements; main score map_at_1000"),
        ("STS", "30 pairs; main score cosine_spearman"),
        ("PairClassification", "30 pairs; main score max_ap"),
        ("Classification", "20 texts, 3 labels, 36 to learn from; main score accuracy"),
        ("Clustering", "30 texts, 3 labels; main score v_measure"),
    ],
)
def test_show_counts_what_there_is(run, tmp_path, kind, says):
    folder = WRITERS[kind](tmp_path / "mine")
    assert run("show", folder) == f"mine: {kind}, {says}\n"


def test_what_cannot_be_made_is_an_error(run, table, tmp_path):
    make = ("make", table, tmp_path / "x", "--type", "Retrieval")
    with pytest.raises(ConfigError, match="NAME=COLUMN, as in query=question"):
        run(*make, "--column", "query")
    with pytest.raises(ConfigError, match="given twice"):
        run(*make, "--column", "query=a", "--column", "query=b")
    with pytest.raises(ConfigError, match=r"task\.json"):
        run("show", tmp_path)
