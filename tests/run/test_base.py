"""A run is known by what it began from, not by how that is named."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from kl3m_embeddings.files.checkpoint import MANIFEST, write_manifest
from tests.run.tuned import read, train, tuned_folder
from tests.train.runs import assert_same_run, run_forked


def test_a_run_goes_on_without_the_model_that_it_began_from(make_model_folder, base, capsys):
    folder = tuned_folder(make_model_folder, base)
    assert train(folder, "--stop-after", 1) == 0
    moved = base.rename(base.parent / "moved")
    assert train(folder, "--stop-after", 1) == 0
    assert train(folder, "--stop-after", 1, "--set", f'init_from="{moved}"') == 0
    assert (folder / "latest").resolve().name == "checkpoint-3"
    other = shutil.copytree(moved, base.parent / "other")
    path = other / "config_sentence_transformers.json"
    path.write_text(json.dumps(read(path) | {"prompts": {"query": "other: "}}))
    capsys.readouterr()
    assert train(folder, "--set", f'init_from="{other}"') == 2
    assert "is not the model that this run began from" in capsys.readouterr().err


def test_a_start_that_fails_leaves_no_architecture_for_another(make_model_folder, base, capsys):
    folder = tuned_folder(make_model_folder, base)
    assert train(folder, "--pairs", "p=nowhere.jsonl") != 0
    assert not (folder / "config.json").exists()


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"num_attention_heads": 4}])
def test_another_architecture_than_the_models_is_refused(make_model_folder, base, capsys, change):
    folder = tuned_folder(make_model_folder, base)
    (folder / "config.json").write_text(json.dumps(read(base / "config.json") | change))
    assert train(folder) == 2
    (key,) = change
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{key} is {change[key]!r}, not {read(base / 'config.json')[key]!r}" in line
    assert not (folder / "checkpoint-0").exists()


def reseal(path, change):
    """Change a checkpoint's manifest as another release would have written it."""
    manifest = read(path / MANIFEST)
    (path / MANIFEST).unlink()
    details = {key: one for key, one in manifest.items() if key not in ("files", "sha256")}
    change(details)
    write_manifest(path, details)


def by_name(base):
    """A manifest of a release that knew models by their names."""

    def change(details):
        del details["base"]
        details["identity"]["init_from"] = str(base)

    return change


def test_a_run_of_an_early_release_goes_on(make_model_folder, base, capsys):
    whole, parts = (tuned_folder(make_model_folder, base, name) for name in ("whole", "parts"))
    assert train(whole, "--stop-after", 2) == 0
    assert train(parts, "--stop-after", 1) == 0
    reseal(parts / "checkpoint-1", by_name(base))
    base = base.rename(base.parent / "moved")
    assert train(parts, "--set", f'init_from="{base}"') == 2  # by its name it is another
    assert "is not the model that this run began from" in capsys.readouterr().err
    assert train(parts, "--stop-after", 1) == 0
    assert_same_run(parts, whole)


def test_a_run_from_random_weights_has_no_base(make_model_folder, base, capsys):
    folder = make_model_folder()
    assert train(folder, "--stop-after", 1) == 0
    capsys.readouterr()
    for arguments in (["--set", f'init_from="{base}"'], ["--set", 'init_from="gone"']):
        assert train(folder, *arguments) == 2
        assert "this run began from random weights: undo the change" in capsys.readouterr().err


CHANGES = {
    "other weights": (lambda base: scale(base / "model.safetensors"), "has changed since"),
    "another prompt": (
        lambda base: edit(base / "config_sentence_transformers.json", prompts={"query": "x: "}),
        "has changed since",
    ),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "cannot be opened"),
    "another form": (lambda base: edit(base / "config.json"), None),
}


def scale(path):
    tensors = {name: 2 * tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def edit(path, **fields):
    path.write_text(json.dumps(read(path) | fields, indent=7))


@pytest.mark.parametrize("what", CHANGES)
def test_a_base_that_changes_in_its_place_changes_no_run(make_model_folder, base, capsys, what):
    whole, parts = (tuned_folder(make_model_folder, base, name) for name in ("whole", "parts"))
    assert train(whole, "--stop-after", 2) == 0
    assert train(parts, "--stop-after", 1) == 0
    change, said = CHANGES[what]
    change(base)
    capsys.readouterr()
    assert train(parts, "--stop-after", 1) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "init_from" in line]
    assert len(told) == (said is not None)
    assert said is None or f"{base} {said}" in told[0]
    assert_same_run(parts, whole)


def without_merges(tokenizer):
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:5]


def lower(tokenizer):
    tokenizer["normalizer"] = {"type": "Lowercase"}


@pytest.mark.parametrize("change", [without_merges, lower, None])
def test_a_tokenizer_that_the_weights_do_not_know_is_told(
    make_model_folder, base, tiny_tokenizer_folder, tmp_path, capsys, change
):
    other = shutil.copytree(tiny_tokenizer_folder, tmp_path / "other") / "tokenizer.json"
    if change:
        tokenizer = read(other)
        change(tokenizer)
        other.write_text(json.dumps(tokenizer))
    folder = tuned_folder(make_model_folder, base, tokenizer=str(other.parent))
    for _ in range(2):  # when it goes on, too
        capsys.readouterr()
        assert train(folder, "--stop-after", 1) == 0
        said = f"tokenizer: {other.parent} is not that of {base}, whose weights know it"
        assert (said in capsys.readouterr().err) == bool(change)
    card = (folder / "latest" / "README.md").read_text()
    assert ("with another tokenizer than its own" in card) == bool(change)


def test_stray_keys_of_the_base_are_none_of_the_runs_slips(make_model_folder, base, capsys):
    edit(base / "config.json", of_another_program=3)
    folder = tuned_folder(make_model_folder, base)
    for _ in range(2):  # from the base's config.json, then from the folder's own
        capsys.readouterr()
        assert train(folder, "--stop-after", 1) == 0
        assert "without effect" in capsys.readouterr().err
    edit(folder / "config.json", hiden_size=3)
    assert train(folder) == 2
    assert "hiden_size: unknown key (did you mean hidden_size?)" in capsys.readouterr().err


def test_a_folder_without_an_architecture_goes_on_from_anothers_checkpoint(make_model_folder, base):
    one, other = (tuned_folder(make_model_folder, base, name) for name in ("one", "other"))
    assert train(one, "--stop-after", 1) == 0
    start = ("--resume_from_checkpoint", one / "checkpoint-1")
    assert train(other, *start, "--stop-after", 1) == 0
    assert train(one, "--stop-after", 1) == 0
    for name in ("model.safetensors", "trainer/optimizer.safetensors", "config.json"):
        ours, theirs = (folder / "checkpoint-2" / name for folder in (one, other))
        assert ours.read_bytes() == theirs.read_bytes()
    assert (other / "config.json").exists()
    assert train(other, "--stop-after", 1) == 0


@pytest.mark.slow
def test_killed_while_its_architecture_is_written_a_run_begins_anew(make_model_folder, base):
    whole = tuned_folder(make_model_folder, base, "whole")
    assert run_forked(whole, "--stop-after", 1) == 0
    for fault, is_written in (("before_log_sync", False), ("after_weights", True)):
        folder = tuned_folder(make_model_folder, base, fault)
        assert run_forked(folder, fault=fault) == -signal.SIGKILL
        assert (folder / "config.json").exists() == is_written
        assert not list(folder.glob("checkpoint-*"))
        assert run_forked(folder, "--stop-after", 1) == 0
        assert (folder / "config.json").read_text() == (base / "config.json").read_text()
        assert_same_run(folder, whole)


def test_a_base_that_is_ruined_is_no_beginning(make_model_folder, base, capsys):
    path = base / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values()))[0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    folder = tuned_folder(make_model_folder, base)
    capsys.readouterr()
    assert train(folder) == 65
    (line,) = capsys.readouterr().err.splitlines()
    assert "not all of its values are finite: the model is ruined: take another" in line
    assert not list(folder.glob("checkpoint-*"))
