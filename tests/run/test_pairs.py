"""The pairs of a run: guides, held-out ones, and rows that are no pairs."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.files.hashes import sha256_of_file, sha256_of_files
from kl3m_embeddings.run.pairs import VECTORS_FILE, has_whole_vectors
from tests.run.tuned import PAIRS, WITH_MARGIN, read, train, tuned_folder
from tests.train.runs import assert_same_run, log_rows


@pytest.mark.slow
@pytest.mark.parametrize("margin", [-2.0, 2.0])
def test_a_guide_decides_which_negatives_count(make_model_folder, base, margin):
    """With a margin of -2 every candidate is more similar than allowed, with 2 none is."""
    loss = {"name": "infonce", "false_negative_margin": margin}
    tasks = {"pairs": {"probability": 1.0, "num_negatives": 1, "loss": loss, "guide": str(base)}}
    whole, parts = (
        tuned_folder(make_model_folder, base, name, tasks=tasks) for name in ("whole", "parts")
    )
    assert train(whole) == 0
    assert train(parts, "--stop-after", 3) == 0
    assert train(parts) == 0
    assert_same_run(whole, parts)
    losses = [row["loss"] for row in log_rows(whole / "log.jsonl")]
    assert all((loss == 0) == (margin < 0) for loss in losses)


@pytest.mark.parametrize("name", [VECTORS_FILE, "dataset.json"])
@pytest.mark.parametrize("damage", ["emptied", "overwritten in place", "gone"])
def test_vectors_in_the_cache_that_are_not_as_they_were_written_are_none(
    tmp_path, monkeypatch, capsys, name, damage
):
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path / "cache"))
    file = tmp_path / VECTORS_FILE
    np.save(file, np.ones((3, 2), np.float32))
    files = {VECTORS_FILE: {"num_bytes": file.stat().st_size, "sha256": sha256_of_file(file)}}
    info = {"files": files, "sha256": sha256_of_files(files)}
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    assert has_whole_vectors(tmp_path)
    if damage == "gone":
        (tmp_path / name).unlink()
    else:
        size = (tmp_path / name).stat().st_size
        (tmp_path / name).write_bytes(b"" if damage == "emptied" else b"7" * size)
    assert not has_whole_vectors(tmp_path)
    told = capsys.readouterr().err
    assert "computing them again" in told or (name, damage) == ("dataset.json", "gone")


@pytest.mark.slow
def test_a_guide_that_changed_is_asked_again(make_model_folder, base, capsys):
    tasks = {"pairs": WITH_MARGIN | {"guide": str(base.parent)}}
    for number, asked in enumerate((True, False, True)):
        if number == 2:
            assert train(base.parent, "--stop-after", 2) == 0
        folder = tuned_folder(make_model_folder, base, f"run-{number}", tasks=tasks)
        capsys.readouterr()
        assert train(folder, "--stop-after", 1) == 0
        assert ("embedding" in capsys.readouterr().err) == asked


@pytest.mark.parametrize(
    ("file", "old", "new", "is_same"),
    [
        ("config_sentence_transformers.json", '"query": "', '"query": "find ', False),
        ("sentence_bert_config.json", '"max_seq_length": 32', '"max_seq_length": 16', False),
        ("config.json", '"layer_norm_eps": 1e-07', '"layer_norm_eps": 0.1', False),
        ("config_sentence_transformers.json", '"cosine"', '"dot"', False),
        ("config.json", "{", "{ ", True),
        ("README.md", "\n", "\n\n", True),
    ],
)
def test_a_run_does_not_go_on_with_another_guide(
    make_model_folder, base, tmp_path, capsys, file, old, new, is_same
):
    """Not even one of the same name and weights; how its files are spaced is no matter."""
    guide = shutil.copytree(base, tmp_path / "guide")
    tasks = {"pairs": WITH_MARGIN | {"guide": str(guide)}}
    folder = tuned_folder(make_model_folder, base, tasks=tasks)
    assert train(folder, "--stop-after", 4) == 0
    text = (guide / file).read_text()
    assert old in text
    (guide / file).write_text(text.replace(old, new, 1))
    capsys.readouterr()
    assert train(folder, "--stop-after", 1) == (0 if is_same else 2)
    message = capsys.readouterr().err
    # how it compares its vectors is no part of them
    assert ("embedding" in message) == (not is_same and new != '"dot"')
    assert is_same or re.search(r"pairs\.train: was '\w+ with guide \w+ by \w+', is '", message)


def test_a_guide_may_move_but_not_be_gone(make_model_folder, base, tmp_path, capsys):
    guide = shutil.copytree(base, tmp_path / "guide")
    whole, parts = (
        tuned_folder(
            make_model_folder, base, name, tasks={"pairs": WITH_MARGIN | {"guide": str(guide)}}
        )
        for name in ("whole", "parts")
    )
    assert train(whole, "--stop-after", 2) == 0
    assert train(parts, "--stop-after", 1) == 0
    moved = guide.rename(tmp_path / "moved")
    capsys.readouterr()
    assert train(parts) == 2
    assert f"{guide}: no such folder" in capsys.readouterr().err
    settings = read(parts / "training.json")
    settings["tasks"]["pairs"]["guide"] = str(moved)
    (parts / "training.json").write_text(json.dumps(settings))
    assert train(parts, "--stop-after", 1) == 0
    assert "embedding" not in capsys.readouterr().err  # its vectors are those in the cache
    assert_same_run(parts, whole)


@pytest.mark.parametrize(("limit", "num_documents"), [(40, 40), (500, 180), (None, 180)])
def test_documents_that_are_left_out_are_told(
    make_model_folder, base, tiny_pair_files, capsys, limit, num_documents
):
    held_out = {"path": str(tiny_pair_files["train"]), "max_rows": 5, "max_documents": limit}
    folder = tuned_folder(make_model_folder, base, eval={"pairs": {"mine": held_out}})
    assert train(folder, "--stop-after", 1) == 0
    said = "warning: mine: queries are asked among 40 of 180 documents: its metrics are higher"
    assert capsys.readouterr().err.count(said) == (num_documents < 180)
    assert log_rows(folder / "eval.jsonl")[0]["mine/num_documents"] == num_documents


BAD_ROWS = {
    "no positive": {"query": "court order", "positive": []},
    "positive equal to its query": {"query": "court order", "positive": ["court order"]},
    "not a text": {"query": "court order", "positive": 3},
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_are_left_out_and_counted(
    make_model_folder, base, tiny_pair_files, tmp_path, capsys, kind
):
    good = tiny_pair_files["train"].read_text()
    path = tmp_path / "bad.jsonl"
    path.write_text(good + json.dumps(BAD_ROWS[kind]) + "\n")
    folder = tuned_folder(make_model_folder, base, pairs={"bad": {"path": str(path)}})
    assert main([str(folder), "--stop-after", "1"]) == 0
    assert f"1 {kind}" in capsys.readouterr().err


def test_pairs_are_named_on_the_command_line(make_model_folder, base, tiny_pair_files):
    folder = tuned_folder(make_model_folder, base, pairs={}, eval={})
    named = ("--pairs", f"mine={tiny_pair_files['train']}")
    held_out = ("--eval-pairs", f"checked={tiny_pair_files['held_out']}")
    assert train(folder, *named, *held_out) == 0
    assert all(row["samples_by_dataset"] == {"mine": 4} for row in log_rows(folder / "log.jsonl"))
    assert all(0 <= row["checked/ndcg@10"] <= 1 for row in log_rows(folder / "eval.jsonl"))


@pytest.mark.parametrize("label", [1, 3.5])
def test_held_out_pairs_of_one_label_are_refused(make_model_folder, tmp_path, capsys, label):
    """They gave a perfect score, and the best checkpoint was chosen by it."""
    held_out = tmp_path / "held.jsonl"
    rows = [{"sentence1": f"a {n}", "sentence2": f"b {n}", "label": label} for n in range(5)]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = make_model_folder(tasks=PAIRS, eval={"pairs": {"mine": {"path": str(held_out)}}})
    assert train(folder) == 65
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: eval.pairs.mine: {held_out}: every label is {label:g}: ")


@pytest.mark.slow
def test_folders_and_files_whose_names_are_no_utf8(make_model_folder, base, tmp_path):
    """A base model, a run and its files: trained, stopped and gone on with as by any other name."""
    odd = os.fsdecode(b"mod\xe8le")
    shutil.copytree(base, tmp_path / odd)
    folders = []
    for name, start in (("plain", base), (f"{odd}-run", tmp_path / odd)):
        folder = tuned_folder(make_model_folder, start, name)
        fields = json.loads((folder / "training.json").read_text())
        for kind, sets in (("pairs", fields["pairs"]), ("eval", fields["eval"]["pairs"])):
            for key, one in sets.items():
                copy = tmp_path / f"{name}-{kind}-{key}.jsonl"
                shutil.copy(one["path"], copy)
                one["path"] = str(copy)
        (folder / "training.json").write_text(json.dumps(fields))
        folders.append(folder)
    assert train(folders[0]) == 0
    assert train(folders[1], "--stop-after", 4) == 0
    assert train(folders[1]) == 0
    logs = [log_rows(folder / "log.jsonl") for folder in folders]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]
