"""What a name on the command line stands for."""

import shutil

import pytest
import torch

from kl3m_embeddings.errors import ConfigError
from tests.benchmark.folders import write_run


@pytest.fixture(scope="module")
def options(bench):
    return bench.candidates.LoadOptions(
        device=torch.device("cpu"), precision="float32", prompts={"query": "w1 "}, quiet=True
    )


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints."""
    return write_run(tmp_path / "law", steps=(1, 2))


def test_a_run_stands_for_its_newest_checkpoint_or_all(bench, options, run):
    def named(source, *, all_checkpoints=False):
        found = bench.candidates.candidates_of(
            str(source), options, all_checkpoints=all_checkpoints
        )
        return [(one.name, one.step) for one in found]

    assert named(run) == [("law", 2)]
    assert named(run, all_checkpoints=True) == [("law", 1), ("law", 2)]
    # a checkpoint is called after its run, wherever it is named
    assert named(run / "checkpoint-1") == [("law", 1)]
    assert named(run / "latest") == [("law", 2)]
    copied = run.parent / "checkpoint-9"
    shutil.copytree(run / "checkpoint-1", copied)
    assert named(copied) == [("checkpoint-9", None)]


def test_checkpoints_have_revisions_of_their_own(bench, options, run):
    found = bench.candidates.candidates_of(str(run), options, all_checkpoints=True)
    first, second = (candidate.load() for candidate in found)
    assert first.revision != second.revision
    assert first.name == second.name == "law"


def test_a_run_without_a_checkpoint_is_refused(bench, options, tmp_path):
    folder = write_run(tmp_path / "empty")
    for all_checkpoints in (False, True):
        with pytest.raises(ConfigError, match="empty: has no checkpoint: train it first"):
            bench.candidates.candidates_of(str(folder), options, all_checkpoints=all_checkpoints)


def test_options_reach_the_model(bench, options, model_folder):
    (found,) = bench.candidates.candidates_of(str(model_folder), options, all_checkpoints=False)
    model = found.load()
    assert (found.name, found.step, found.baseline) == ("tiny", None, False)
    assert model.texts.precision == "float32"
    assert model.prompts == {"query": "w1 ", "document": ""}


def test_names(bench, tmp_path):
    name = bench.candidates.model_name
    (tmp_path / "here").mkdir()
    assert name(str(tmp_path / "here")) == "here"
    assert name("package:law_model/model") == "law_model"
    assert name("org/model") == "org/model"


def test_baselines(bench, options, model_folder):
    found = bench.candidates.baseline_candidates(["bm25", "random", str(model_folder)], options)
    assert [one.name for one in found] == ["bm25", "random", "tiny"]
    assert all(one.baseline for one in found)
    assert [one.searches_only for one in found] == [True, False, False]
    retrieval, sts = bench.mteb.get_task("SciFact"), bench.mteb.get_task("STS12")
    assert [one.can(sts) for one in found] == [False, True, True]
    assert all(one.can(retrieval) for one in found)


def test_the_base_of_a_run(bench, make_model_folder, tmp_path):
    assert bench.candidates.untouched_base(make_model_folder("a")) is None
    assert bench.candidates.untouched_base(make_model_folder("b", init_from="org/x")) == "org/x"
    assert bench.candidates.untouched_base(tmp_path / "none") is None
