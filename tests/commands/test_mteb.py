"""kl3m mteb and kl3m task: what they print and write, how they end, what they say is wrong."""

import csv
import json
import os
import re
import shutil
import sys

import pytest

from kl3m_embeddings.commands import cli
from kl3m_embeddings.commands.describe import main as describe
from kl3m_embeddings.commands.mteb import numbers
from kl3m_embeddings.commands.train import main as train
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.lock import folder_lock
from tests.benchmark.folders import WRITERS, write_model, write_rows, write_run
from tests.report.logs import write_run as write_log

pytestmark = [
    pytest.mark.usefixtures("bench"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def kl3m(monkeypatch, capsys):
    """Runs a command; its exit code, its output, and its lines of errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kl3m", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in shown.err
        return caught.value.code, shown.out, errors

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("command") / "tiny")


@pytest.fixture
def sts(tmp_path):
    return WRITERS["STS"](tmp_path / "alike")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "results"


def test_scores_are_printed_and_written(kl3m, model, sts, tmp_path, out):
    find = WRITERS["Retrieval"](tmp_path / "find")
    arguments = ("--task", sts, "--task", find, "--out", out, "--precision", "float32")
    code, printed, errors = kl3m("mteb", model, *arguments, "--baseline", "bm25", "--dims", "8")
    assert (code, errors) == (0, [])
    assert "alike" in printed and "find" in printed and "bm25" in printed
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["model"], row["task"], row["dim"]) for row in rows} == {
        ("bm25", "find", "0"), ("tiny", "alike", "32"), ("tiny", "alike", "8"),
        ("tiny", "find", "32"), ("tiny", "find", "8"),
    }  # fmt: skip
    compared = {row["compared_with"] for row in rows if row["task"] == "find"}
    assert compared == {"", "bm25"}
    score = next(row for row in rows if row["task"] == "alike" and row["dim"] == "32")["score"]
    assert f"{float(score):.4f}" in printed
    assert "Difference to bm25" in printed
    assert max(map(len, printed.split("Benchmark scores")[1].splitlines()[:-2])) <= 80
    other = WRITERS["STS"](tmp_path / "other")
    printed = kl3m("mteb", model, "--task", other, "--out", out)[1]
    assert "other" in printed and "alike" not in printed  # nor what was scored before


def test_results_of_a_run_are_in_its_folder(kl3m, tmp_path, sts):
    folder = write_run(tmp_path / "law", steps=(0, 1))
    code, printed, _ = kl3m("mteb", folder, "--task", sts, "--all-checkpoints")
    assert code == 0
    assert "step 0" in printed and "step 1" in printed
    rows = [json.loads(line) for line in (folder / "benchmark/scores.jsonl").open()]
    assert [(row["model"], row["step"]) for row in rows] == [("law", 0), ("law", 1)]
    assert rows[0]["revision"] != rows[1]["revision"]


def test_a_failed_task_is_told_and_the_others_are_saved(kl3m, model, sts, tmp_path, out):
    same = WRITERS["STS"](tmp_path / "same")
    write_rows(
        same / "test.jsonl",
        [{"sentence1": "w1", "sentence2": "w2", "score": score} for score in range(4)],
    )
    code, _, errors = kl3m("mteb", model, "--task", same, "--task", sts, "--out", out)
    assert code == 65
    assert errors[0].startswith("error: same (tiny): the score is not a number: ")
    assert errors[1] == "error: all other scores are saved"
    rows = [json.loads(line) for line in (out / "scores.jsonl").open()]
    assert [row["score"] is None for row in rows] == [True, False]


def test_data_that_is_not_here_can_be_had_later(kl3m, model, sts, out):
    tasks = ("--mteb", "STS12,CQADupstackRetrieval", "--task", sts)
    code, _, errors = kl3m("mteb", model, *tasks, "--out", out)
    assert code == 75
    assert errors[0].startswith(
        "error: STS12, CQADupstackRetrieval: its data is not on this machine"
    )
    assert "HF_HOME" in errors[0]
    rows = [json.loads(line) for line in (out / "scores.jsonl").open()]
    assert {row["task"]: row["error"] is None for row in rows}["alike"]


WRONG = {
    "no task": ((), "no task: name some of mteb's with --mteb, or a folder with --task"),
    "unknown": (("--mteb", "SciFakt"), "SciFakt: mteb .* has no such task .*did you mean SciFact"),
    "list": (("--mteb-file", "none.txt"), "none.txt: no such file"),
    "folder": (("--task", "{tmp}/none"), "none: no such folder: give a folder with a task.json"),
    "twice": (
        ("--task", "{sts}", "--task", "{sts}"),
        "--task: two tasks are called 'alike': rename",
    ),
    "both": (
        ("--task", "{tmp}/STS12", "--mteb", "STS12"),
        "--task: two tasks are called 'STS12': rename one in its task.json",
    ),
    "compare": (
        ("--task", "{sts}", "--compare-with", "tinny"),
        "--compare-with tinny: not among the models .did you mean tiny",
    ),
    "dims": (("--task", "{sts}", "--dims", "0"), "--dims 0: must be a whole number above 0"),
    "dtypes": (
        ("--task", "{sts}", "--dtypes", "foo"),
        "--dtypes foo: unknown: use float32, int8, b",
    ),
    "precision": (("--task", "{sts}", "--precision", "half"), "--precision half: unknown: use bfl"),
    "model twice": (("{model}", "--task", "{sts}"), "tiny: given twice: leave one out, or rename"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_are_told_in_one_line(kl3m, model, sts, tmp_path, out, case):
    WRITERS["STS"](tmp_path / "STS12")
    arguments, message = WRONG[case]
    filled = [one.format(tmp=tmp_path, sts=sts, model=model) for one in arguments]
    code, _, errors = kl3m("mteb", model, *filled, "--out", out)
    assert code == 2
    (line,) = errors
    assert re.search(message, line)
    assert not out.exists()


def test_a_model_without_a_tokenizer_is_told(kl3m, model, sts, tmp_path, out):
    folder = tmp_path / "bare"
    shutil.copytree(model, folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    code, _, errors = kl3m("mteb", model, folder, "--task", sts, "--out", out)
    assert code == 2
    (line,) = errors
    assert "bare" in line and "tokenizer" in line
    assert not out.exists()  # nor is the other scored first


def test_one_process_at_a_time_scores_into_a_folder(kl3m, model, sts, out):
    from kl3m_embeddings.benchmark.run import LOCK_FILE

    out.mkdir()
    with folder_lock(out / LOCK_FILE, "scores models"):
        code, _, (line,) = kl3m("mteb", model, "--task", sts, "--out", out)
    assert code == 75
    assert line.endswith(
        f"results: process {os.getpid()} scores models here; wait for it, or stop it"
    )
    assert not (out / "scores.jsonl").exists()


def test_a_faulty_task_is_told_before_anything_is_scored(kl3m, model, sts, tmp_path, out):
    bad = WRITERS["STS"](tmp_path / "bad", nmae="x")
    code, _, errors = kl3m("mteb", model, "--task", sts, "--task", bad, "--out", out)
    assert (code, len(errors)) == (2, 1)
    assert "task.json: nmae: unknown key (did you mean name?)" in errors[0]
    (sts / "test.jsonl").unlink()
    code, _, errors = kl3m("mteb", model, "--task", sts, "--out", out)
    assert (code, len(errors)) == (65, 1)
    assert "no test file" in errors[0]
    assert not out.exists()


def test_names_keep_the_commas_in_parentheses():
    from kl3m_embeddings.benchmark.request import split_names

    assert split_names("SciFact, MTEB(eng, v2),STS12,,") == ["SciFact", "MTEB(eng, v2)", "STS12"]
    assert split_names("MTEB(eng, v2)") == ["MTEB(eng, v2)"]
    assert split_names("") == []


def test_sizes_are_whole_numbers():
    assert numbers("64, 32,,128") == [64, 32, 128]
    for wrong in ("-1", "1.5", "x", "٣٢x"):
        with pytest.raises(ConfigError, match="must be a whole number above 0"):
            numbers(wrong)


def test_a_task_is_made_shown_and_scored(kl3m, model, tmp_path, out):
    table = tmp_path / "qa.csv"
    table.write_text("question,answer\nw1,w2\nw3,w4\nw1,w2\n")
    folder = tmp_path / "qa"
    code, printed, _ = kl3m(
        "task", "make", table, folder, "--type", "Retrieval", "--column", "query=question",
        "--column", "document=answer", "--main-score", "mrr_at_10",
    )  # fmt: skip
    assert code == 0
    assert "1 rows left out: repeated" in printed
    summary = "qa: Retrieval, 2 queries, 2 documents, 2 judgements; main score mrr_at_10"
    assert summary in printed
    assert kl3m("task", "show", folder)[1].strip() == summary
    assert kl3m("mteb", model, "--task", folder, "--out", out)[0] == 0
    (row,) = [json.loads(line) for line in (out / "scores.jsonl").open()]
    assert (row["task"], row["metric"], row["num_items"]) == ("qa", "mrr_at_10", 2)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_type_is_shown(kl3m, tmp_path, kind):
    code, printed, _ = kl3m("task", "show", WRITERS[kind](tmp_path / "one"))
    assert code == 0
    assert printed.startswith(f"one: {kind}, ")


def test_a_wrong_column_is_told(kl3m, tmp_path):
    table = tmp_path / "qa.csv"
    table.write_text("question,answer\nw1,w2\n")
    make = ("task", "make", table, tmp_path / "qa", "--type", "Retrieval", "--column")
    for column, message in (
        ("query", "write --column NAME=COLUMN"),
        ("querry=question", "did you mean query"),
    ):
        code, _, errors = kl3m(*make, column)
        assert (code, len(errors)) == (2, 1)
        assert message in errors[0]


@pytest.mark.slow
def test_describe_scores_a_run_beside_what_it_started_from(
    make_model_folder, model, tmp_path, capsys
):
    """At the sizes that it was trained for; scores and what was found are in its report."""
    find = WRITERS["Retrieval"](tmp_path / "find")
    tasks = {"pairs": {"probability": 1.0, "loss": {"name": "infonce"}, "matryoshka_dims": [32, 8]}}
    folder = make_model_folder("law", tasks=tasks, init_from=str(model), tokenizer=None)
    (folder / "config.json").unlink()
    assert train([str(folder), "--stop-after", "2", "--quiet"]) == 0
    assert describe([str(folder), "--task", str(find), "--baseline", "bm25"]) == 0
    rows = [json.loads(line) for line in (folder / "benchmark/scores.jsonl").open()]
    forms = {(row["dim"], row["dtype"], row["control"]) for row in rows if row["model"] == "law"}
    assert forms == {
        (dim, dtype, False) for dim in (32, 8) for dtype in ("float32", "int8", "binary")
    } | {(8, "float32", True)}
    assert {row["model"] for row in rows if row["baseline"]} == {"bm25", "tiny"}
    page = (folder / "report.html").read_text()
    (query, *_) = [json.loads(line) for line in (folder / "benchmark/neighbours.jsonl").open()]
    assert query["query"] in page and "quality_by_dim.png" in page
    capsys.readouterr()


def test_ctrl_c_ends_the_scoring_of_all_runs_and_draws_what_is_there(
    make_model_folder, tmp_path, sts, monkeypatch
):
    folders = [make_model_folder(name) for name in "ab"]
    for folder in folders:
        write_log(folder)
    asked = []

    def interrupted(request):
        asked.append(request.models)
        raise KeyboardInterrupt

    monkeypatch.setattr("kl3m_embeddings.commands.scoring.run_benchmark", interrupted)
    arguments = [*map(str, folders), "--task", str(sts), "--out", str(tmp_path / "out")]
    assert describe(arguments) == 130
    assert asked == [[str(folders[0])]]
    assert (tmp_path / "out" / "report.html").is_file()


def test_describe_draws_though_a_score_is_missing(make_model_folder, tmp_path, capsys):
    folder = make_model_folder("law", optimizer={"total_steps": 2, "warmup_steps": 1})
    assert train([str(folder), "--quiet"]) == 0
    assert describe([str(folder), "--task", str(tmp_path / "none")]) == 2
    assert "none: no such folder: give a folder with a task.json" in capsys.readouterr().err
    assert (folder / "report.html").exists()
    with pytest.raises(SystemExit) as caught:
        describe([str(folder), "--task", "x", "--watch"])
    assert caught.value.code == 2
