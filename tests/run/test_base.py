"""A run is known by what it began from, not by how that is named."""

import json
import shutil

import pytest

from tests.run.tuned import read, train, tuned_folder


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
