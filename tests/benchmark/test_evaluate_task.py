"""Whole results are used again, and no others; nothing depends on what was scored before."""

import json

import pytest

from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import WRITERS

pytestmark = pytest.mark.filterwarnings("ignore")


def local(bench, path, kind="STS", **fields):
    return bench.local_tasks.local_task(read_local_task(WRITERS[kind](path, **fields)))


@pytest.fixture
def calls(bench, monkeypatch):
    """The names of the tasks that mteb was asked to score."""
    found = []
    inner = bench.evaluate_task.run_mteb

    def run_mteb(model, task):
        found.append(task.metadata.name)
        return inner(model, task)

    monkeypatch.setattr(bench.evaluate_task, "run_mteb", run_mteb)
    return found


def evaluated(bench, model, task, folder):
    model.begin(task)
    scores, _ = bench.evaluate_task.evaluate_task(model, task, folder)
    return {(one.split, one.subset): one for one in scores}


def same(first, second):
    assert first.keys() == second.keys()
    for key, one in first.items():
        assert one.score == pytest.approx(second[key].score, abs=1e-5)  # mteb's files are rounded


def test_a_result_is_made_once(bench, make_model, tmp_path, calls):
    task = local(bench, tmp_path / "own")
    first, second = (evaluated(bench, make_model(), task, tmp_path / "out") for _ in range(2))
    assert calls == ["own"]
    same(first, second)
    assert (second["test", "default"].items.values == first["test", "default"].items.values).all()


@pytest.mark.parametrize("text", ["", '{"task_name": "own"', "{}", "[]", "null"])
def test_half_a_result_is_made_again(bench, make_model, tmp_path, calls, text):
    task = local(bench, tmp_path / "own")
    first = evaluated(bench, make_model(), task, tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("own.json")
    path.write_text(text)
    same(evaluated(bench, make_model(), task, tmp_path / "out"), first)
    assert calls == ["own", "own"]


@pytest.mark.parametrize("kind", ["STS", "Retrieval"])
def test_damaged_parts_of_a_score_are_made_again(bench, make_model, tmp_path, calls, capsys, kind):
    task = local(bench, tmp_path / "own", kind)
    first = evaluated(bench, make_model(), task, tmp_path / "out")
    parts = sorted((tmp_path / "out" / "items").rglob("own.*"))
    assert parts
    for path in parts:
        intact = path.read_bytes()
        path.write_bytes(b"{" + intact[:9])
        capsys.readouterr()
        same(evaluated(bench, make_model(), task, tmp_path / "out"), first)
        assert "the task is scored again" in capsys.readouterr().err
        assert path.read_bytes() == intact
    assert len(calls) == 1 + len(parts)


def test_a_result_of_other_texts_is_made_again(bench, make_model, tmp_path, calls):
    first = evaluated(bench, make_model(), local(bench, tmp_path / "a" / "own"), tmp_path / "out")
    changed = local(bench, tmp_path / "b" / "own", seed=5)
    second = evaluated(bench, make_model(), changed, tmp_path / "out")
    assert calls == ["own", "own"]
    assert first["test", "default"].score != second["test", "default"].score


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "Clustering" else pytest.mark.slow)
        for kind in WRITERS
    ],
)
def test_a_score_does_not_depend_on_what_was_scored_before(bench, make_model, tmp_path, kind):
    """mteb's clusterings go on drawing where the last model's ended."""
    task = local(bench, tmp_path / "own", kind)
    first, second = (
        evaluated(bench, make_model(), task, tmp_path / name)["test", "default"].score
        for name in ("first", "second")
    )
    assert first == second


def languages(bench, chosen):
    from mteb.mocks.mock_tasks.sts import MockMultilingualSTSTask

    task = MockMultilingualSTSTask()
    task = task.filter_languages(chosen) if chosen else task
    task.load_data()
    return task


@pytest.mark.parametrize("first", [["fra"], None])
def test_a_result_for_other_languages_is_not_enough(bench, make_model, tmp_path, calls, first):
    """A benchmark asks a task in some of its languages, its bare name in all."""
    second = None if first else ["fra"]
    some, more = (
        evaluated(bench, make_model(), languages(bench, chosen), tmp_path)
        for chosen in (first, second)
    )
    few = {("test", "fra")}
    assert set(some) == (few if first else few | {("test", "eng")})
    assert set(more) == (few if second else few | {("test", "eng")})
    again = evaluated(bench, make_model(), languages(bench, None), tmp_path)
    assert set(again) == few | {("test", "eng")}
    assert len(calls) == (2 if first else 1)


def test_an_aggregate_is_scored_and_kept(bench, make_model, tmp_path, calls, monkeypatch):
    from mteb.mocks.mock_tasks.reranking import MockAggregatedTask

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    task = MockAggregatedTask()
    first, second = (evaluated(bench, make_model(), task, tmp_path) for _ in range(2))
    assert len(calls) == 1
    same(first, second)
    assert first["test", "default"].items is None
    assert not list(here.iterdir())  # its parts leave no predictions where the command was given


def test_a_score_that_is_none_is_no_number(bench, make_model, tmp_path):
    """mteb has average precision of two classes only."""
    task = local(bench, tmp_path / "own", "Classification")
    task.metadata = task.metadata.model_copy(update={"main_score": "ap"})
    assert evaluated(bench, make_model(), task, tmp_path / "out")["test", "default"].score is None


def test_results_are_filed_by_model_and_revision(bench, make_model, tmp_path):
    task = local(bench, tmp_path / "own")
    models = [make_model(), make_model(name="other"), make_model(prompts={"query": "w1 "})]
    for model in models:
        evaluated(bench, model, task, tmp_path / "out")
    found = {tuple(path.parts[-3:-1]) for path in (tmp_path / "out").rglob("own.json")}
    assert found == {(model.name, model.revision) for model in models}


def test_numbers_on_disk_are_json(bench, make_model, tmp_path):
    evaluated(bench, make_model(), local(bench, tmp_path / "own"), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
