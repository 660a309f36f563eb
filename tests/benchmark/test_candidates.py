"""What a name on the command line stands for."""

import shutil

import pytest
import torch

from kl3m_embeddings.encoder.folder.model_paths import ModelPath, model_name, model_paths
from kl3m_embeddings.errors import ConfigError, DataError
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


def test_checkpoints_have_revisions_of_their_own(bench, options, run):
    found = model_paths(str(run), print, all_checkpoints=True)
    first, second = (bench.candidates.candidate_at(one, options).load() for one in found)
    assert first.revision != second.revision
    assert first.name == second.name == "law"


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    folder = write_run(tmp_path / "empty")
    for all_checkpoints in (False, True):
        with pytest.raises(ConfigError, match="empty: has no checkpoint: train it first"):
            model_paths(str(folder), print, all_checkpoints=all_checkpoints)


def test_options_reach_the_model(bench, options, model_folder):
    found = bench.candidates.candidate_at(ModelPath("tiny", str(model_folder)), options)
    model = found.load()
    assert (found.name, found.step, found.baseline) == ("tiny", None, False)
    assert model.texts.precision == "float32"
    assert model.prompts == {"query": "w1 ", "document": ""}


def test_names(tmp_path):
    name = model_name
    (tmp_path / "here").mkdir()
    assert name(str(tmp_path / "here")) == "here"
    assert name("package:law_model/model") == "law_model"
    assert name("org/model") == "org/model"


def test_baselines(bench, options, model_folder):
    names = ("bm25", "random", str(model_folder))
    found = [bench.candidates.baseline_candidate(name, options, print) for name in names]
    assert [one.name for one in found] == ["bm25", "random", "tiny"]
    assert all(one.baseline for one in found)
    assert [one.searches_only for one in found] == [True, False, False]
    retrieval, sts = bench.mteb.get_task("SciFact"), bench.mteb.get_task("STS12")
    assert [one.can(sts) for one in found] == [False, True, True]
    assert all(one.can(retrieval) for one in found)


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


def test_words_in_common_rank_the_parts_of_an_aggregate_too(bench, options):
    from mteb.mocks.mock_tasks.reranking import MockAggregatedTask

    bm25 = bench.candidates.baseline_candidate("bm25", options, print)
    task = MockAggregatedTask()
    assert bm25.can(task)
    task.tasks = [*task.tasks, bench.mteb.get_task("STS12")]
    assert not bm25.can(task)
