"""`kl3m svd` on a run."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from kl3m_embeddings.commands.cli import app
from kl3m_embeddings.commands.train import main as train
from kl3m_embeddings.report.names import number

PAIRS = {"pairs": {"probability": 1.0, "loss": {"name": "infonce"}}}


def rows(folder):
    return [json.loads(line) for line in (folder / "spectra.jsonl").read_text().splitlines()]


def svd(*arguments):
    return CliRunner().invoke(app, ["svd", *map(str, arguments)])


@pytest.fixture
def run(make_model_folder):
    folder = make_model_folder("law", tasks=PAIRS, steps_per_save=2)
    assert train([str(folder), "--stop-after", "4", "--quiet"]) == 0
    return folder


def test_a_run_is_looked_at_by_its_held_out_pairs(run):
    """And another call replaces the rows of the same checkpoint, no others."""
    shown = svd(run, "--all-checkpoints")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.output.splitlines() if line.startswith("law ")]
    assert [line[:2] for line in lines] == [["law", "2"], ["law", "4"]]
    first = rows(run)
    ranks = [row["effective_rank"] for row in first if row["step"] == 4 and row["kind"] == "layer"]
    assert lines[1][2] == number(sum(ranks) / len(ranks), 3)
    assert {(row["model"], row["step"]) for row in first} == {("law", 2), ("law", 4)}
    shapes = [row for row in first if row["kind"] == "embeddings"]
    assert len(shapes) == 2 and all(0 <= row["alignment"] <= 4 for row in shapes)
    again = svd(run)
    assert again.exit_code == 0
    assert [line.split()[1] for line in again.output.splitlines() if line[:4] == "law "] == ["4"]
    key = json.dumps
    assert sorted(map(key, rows(run))) == sorted(map(key, first))


def test_without_texts_the_weights_alone_are_looked_at(run, tmp_path):
    assert svd(run / "latest", "--out", tmp_path).exit_code == 0
    assert {row["kind"] for row in rows(tmp_path)} == {"layer"}


def test_a_sample_of_texts(run, tmp_path, tiny_corpus_files):
    texts = next(iter(tiny_corpus_files.values()))
    assert svd(run, "--texts", texts, "--num-texts", 7, "--out", tmp_path).exit_code == 0
    (shape,) = [row for row in rows(tmp_path) if row["kind"] == "embeddings"]
    assert shape["num_texts"] == 7 and shape["alignment"] is None


def test_a_file_of_something_else_is_not_overwritten(run):
    (run / "spectra.jsonl").write_text("not rows\n")
    result = svd(run)
    assert result.exit_code != 0
    assert "spectra.jsonl:1: not a row of this file: move the file away" in str(result.exception)
    assert (run / "spectra.jsonl").read_text() == "not rows\n"


def test_two_models_of_one_name_are_refused(run, tmp_path):
    copy = tmp_path / "other" / "law" / "checkpoint-4"
    shutil.copytree(run / "checkpoint-4", copy)
    (copy.parent / "training.json").write_bytes((run / "training.json").read_bytes())
    result = svd(run, copy, "--out", tmp_path)
    assert str(result.exception) == "law: given twice: leave one out, or rename its folder"
    assert not (tmp_path / "spectra.jsonl").exists()
