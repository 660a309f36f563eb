import shutil

import pytest

from kl3m_embeddings.encoder.folder.model_paths import (
    check_unique,
    model_name,
    model_paths,
)
from kl3m_embeddings.errors import ConfigError, DataError
from tests.benchmark.folders import write_run


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints."""
    return write_run(tmp_path / "law", steps=(1, 2))


def test_a_run_stands_for_its_newest_checkpoint_or_all(run):
    def named(source, *, all_checkpoints=False):
        found = model_paths(str(source), print, all_checkpoints=all_checkpoints)
        return [(one.name, one.step) for one in found]

    assert named(run) == [("law", 2)]
    assert named(run, all_checkpoints=True) == [("law", 1), ("law", 2)]
    # a checkpoint is called after its run, wherever it is named
    assert named(run / "checkpoint-1") == [("law", 1)]
    assert named(run / "latest") == [("law", 2)]
    copied = run.parent / "checkpoint-9"
    shutil.copytree(run / "checkpoint-1", copied)
    assert named(copied) == [("checkpoint-9", None)]


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    folder = write_run(tmp_path / "empty")
    for all_checkpoints in (False, True):
        with pytest.raises(ConfigError, match="empty: has no checkpoint: train it first"):
            model_paths(str(folder), print, all_checkpoints=all_checkpoints)


def test_names(tmp_path):
    name = model_name
    (tmp_path / "here").mkdir()
    assert name(str(tmp_path / "here")) == "here"
    assert name("package:law_model/model") == "law_model"
    assert name("org/model") == "org/model"


def test_damaged_checkpoints_are_told_and_left_out(run):
    (run / "checkpoint-1" / "manifest.json").unlink()
    told = []
    found = model_paths(str(run), told.append, all_checkpoints=True)
    assert [one.step for one in found] == [2]
    (line,) = told
    assert "checkpoint-1" in line and line.endswith("; it is left out")
    (run / "checkpoint-2" / "manifest.json").unlink()
    with pytest.raises(DataError, match="law: every checkpoint is damaged"):
        model_paths(str(run), told.append, all_checkpoints=True)


def test_two_models_of_one_name_and_step_are_refused():
    check_unique([("law", 1), ("law", 2), ("law", None), ("other", 1)])
    with pytest.raises(ConfigError, match=r"^law: given twice: leave one out, or rename"):
        check_unique([("other", 1), ("law", 2), ("law", 2)])
