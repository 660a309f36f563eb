"""What a name on the command line stands for."""

import pytest
import torch

from kl3m_embeddings.encoder.folder.model_paths import ModelPath, model_paths
from tests.benchmark.folders import sentences, write_rows, write_run, write_settings


@pytest.fixture(scope="module")
def options(bench):
    return bench.candidates.LoadOptions(
        device=torch.device("cpu"), precision="float32", prompts={"query": "w1 "}, quiet=True
    )


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints."""
    return write_run(tmp_path / "law", steps=(1, 2))


def test_checkpoints_have_revisions_of_their_own(bench, options, run):
    found = model_paths(str(run), print, all_checkpoints=True)
    first, second = (bench.candidates.candidate_at(one, options).load() for one in found)
    assert first.revision != second.revision
    assert first.name == second.name == "law"


def test_options_reach_the_model(bench, options, model_folder):
    found = bench.candidates.candidate_at(ModelPath("tiny", str(model_folder)), options)
    model = found.load()
    assert (found.name, found.step, found.baseline) == ("tiny", None, False)
    assert model.texts.precision == "float32"
    assert model.prompts == {"query": "w1 ", "document": ""}


def test_baselines(bench, options, model_folder):
    names = ("bm25", "random", str(model_folder))
    found = [bench.candidates.baseline_candidate(name, options, print) for name in names]
    assert [one.name for one in found] == ["bm25", "random", "tiny"]
    assert all(one.baseline for one in found)
    assert [one.searches_only for one in found] == [True, False, False]
    retrieval, sts = bench.mteb.get_task("SciFact"), bench.mteb.get_task("STS12")
    assert [one.can(sts) for one in found] == [False, True, True]
    assert all(one.can(retrieval) for one in found)


def test_words_in_common_rank_the_parts_of_an_aggregate_too(bench, options):
    from mteb.mocks.mock_tasks.reranking import MockAggregatedTask

    bm25 = bench.candidates.baseline_candidate("bm25", options, print)
    task = MockAggregatedTask()
    assert bm25.can(task)
    task.tasks = [*task.tasks, bench.mteb.get_task("STS12")]
    assert not bm25.can(task)


@pytest.mark.filterwarnings("ignore")
def test_baselines_go_the_same_way(score, model_folder, sts, retrieval):
    rows = score(
        [model_folder], [sts, retrieval], baselines=["bm25", "random"], compare_with="bm25"
    )
    found = {(row.model, row.task): row for row in rows}
    assert set(found) == {
        ("bm25", "find"), ("random", "alike"), ("random", "find"), ("tiny", "alike"),
        ("tiny", "find"),
    }  # fmt: skip
    assert [row.baseline for row in rows] == [row.model != "tiny" for row in rows]
    assert found["tiny", "find"].difference_low is not None
    assert found["tiny", "alike"].difference is None  # bm25 was not asked
    assert found["bm25", "find"].num_items == found["tiny", "find"].num_items == 9


@pytest.mark.filterwarnings("ignore")
def test_bm25_finds_titles_too(score, tmp_path):
    """A title belongs to its document, for every model."""
    folder = write_settings(tmp_path / "titles", "Retrieval")
    texts = sentences(8, seed=3)
    write_rows(
        folder / "corpus.jsonl",
        [{"_id": f"d{n}", "title": f"title{n}", "text": text} for n, text in enumerate(texts)],
    )
    write_rows(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"title{n}"} for n in range(8)])
    (folder / "qrels").mkdir()
    lines = [f"q{n}\td{n}\t1" for n in range(8)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    (row,) = score([], [folder], baselines=["bm25"])
    assert row.score == 1
