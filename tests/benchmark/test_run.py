"""Models on tasks: what is kept, made again, told apart, and compared."""

import csv
from collections import Counter

import pytest

from kl3m_embeddings.benchmark.scores import read_scores
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import (
    WRITERS,
    write_model,
    write_rows,
    write_settings,
)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def encoded(monkeypatch):
    """How many texts were encoded."""
    counter = Counter()
    inner = TextEncoder.encode

    def encode(self, texts, **options):
        counter["texts"] += len(texts)
        return inner(self, texts, **options)

    monkeypatch.setattr(TextEncoder, "encode", encode)
    return counter


def table(folder):
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_are_made_once(score, encoded, model_folder, sts, retrieval, tmp_path):
    first = score([model_folder], [sts, retrieval])
    num_texts = encoded["texts"]
    assert num_texts > 60
    second = score([model_folder], [sts, retrieval])
    assert encoded["texts"] == num_texts
    for one, other in zip(first, second, strict=True):
        assert one.key == other.key
        assert one.score == other.score
        assert (one.low, one.high) == (other.low, other.high)
    assert read_scores(tmp_path / "out") == second
    assert len(table(tmp_path / "out")) == 2


@pytest.mark.slow
def test_intervals_hold_scores(score, model_folder, tmp_path):
    folders = [write(tmp_path / kind.lower()) for kind, write in WRITERS.items()]
    rows = {row.type: row for row in score([model_folder], folders)}
    assert rows.keys() == WRITERS.keys()
    clustering = rows.pop("Clustering")
    assert clustering.score is not None
    assert (clustering.low, clustering.num_items) == (None, None)
    for row in rows.values():
        assert row.low < row.score < row.high
        assert row.num_items == {"Retrieval": 9, "Reranking": 9, "Classification": 20}.get(
            row.type, 30
        )


def test_models_of_one_name_never_share_a_score(score, sts, tmp_path):
    folders = [write_model(tmp_path / name / "same", seed=seed) for seed, name in enumerate("ab")]
    (first,), (second,) = (score([folder], [sts]) for folder in folders)
    assert first.model == second.model == "same"
    assert first.score != second.score
    (again,) = score([folders[0]], [sts])
    assert again.score == pytest.approx(first.score, abs=1e-5)


@pytest.mark.slow
def test_rows_of_weights_that_are_no_more_are_dropped(
    score, model_folder, sts, retrieval, tmp_path
):
    folder = write_model(tmp_path / "same", seed=1)
    score([model_folder, folder], [sts, retrieval])
    write_model(folder, seed=2)
    (new,) = score([folder], [sts])
    rows = read_scores(tmp_path / "out")
    assert [(row.model, row.task) for row in rows] == [
        ("tiny", "alike"), ("tiny", "find"), ("same", "alike"),
    ]  # fmt: skip
    assert rows[2] == new


def test_a_task_that_has_changed_is_scored_anew(score, encoded, model_folder, sts, tmp_path):
    (first,) = score([model_folder], [sts])
    WRITERS["STS"](sts, seed=7)
    (second,) = score([model_folder], [sts])
    assert second.score != first.score
    assert read_scores(tmp_path / "out") == [second]
    assert encoded["texts"] == 2 * 60


def test_half_a_result_is_made_anew(score, encoded, model_folder, sts, tmp_path):
    (first,) = score([model_folder], [sts])
    (path,) = (tmp_path / "out").rglob("alike.json")
    path.write_text(path.read_text()[:100])
    (second,) = score([model_folder], [sts])
    assert second.score == first.score
    assert encoded["texts"] == 2 * 60


def broken(bench, folder):
    """A task that mteb cannot score."""
    task = bench.local_tasks.local_task(read_local_task(folder))

    def evaluate(*_, **__):
        raise RuntimeError("cannot be scored\nfor a reason")

    task.evaluate = evaluate
    return task


def test_a_failing_task_is_a_row(bench, score, model_folder, sts, retrieval, tmp_path):
    failed, good = score([model_folder], [broken(bench, sts), retrieval])
    assert (failed.score, failed.error) == (None, "cannot be scored")
    assert good.score is not None and good.error is None
    assert read_scores(tmp_path / "out") == [failed, good]
    mended = score([model_folder], [sts, retrieval])[0]
    assert mended.error is None
    assert {row.task for row in read_scores(tmp_path / "out")} == {"alike", "find"}
    assert all(row.error is None for row in read_scores(tmp_path / "out"))


def test_what_was_scored_before_an_interruption_stays(
    bench, score, model_folder, sts, retrieval, tmp_path
):
    task = broken(bench, retrieval)

    def evaluate(*_, **__):
        raise KeyboardInterrupt

    task.evaluate = evaluate
    with pytest.raises(KeyboardInterrupt):
        score([model_folder], [sts, task])
    (row,) = read_scores(tmp_path / "out")
    assert row.task == "alike" and row.score is not None and row.low is not None


def test_a_score_that_is_not_a_number(score, tmp_path, model_folder):
    """Of texts that are all the same there is no correlation."""
    folder = write_settings(tmp_path / "same", "STS")
    rows = [{"sentence1": "w1", "sentence2": "w2", "score": score} for score in range(4)]
    write_rows(folder / "test.jsonl", rows)
    for _ in range(2):  # made, and read again
        (row,) = score([model_folder], [folder])
        assert row.score is None
        assert row.error == "the score is not a number: are all vectors, or all answers, the same?"
        assert row.low is None
    assert table(tmp_path / "out")[0]["score"] == ""


@pytest.mark.slow
def test_variants_are_rows_of_their_own(score, encoded, model_folder, retrieval):
    rows = score([model_folder], [retrieval], dims=[8, 64], dtypes=["int8", "binary"])
    found = {(row.dim, row.dtype, row.control): row for row in rows}
    assert set(found) == {
        *((dim, dtype, False) for dim in (32, 8) for dtype in ("float32", "int8", "binary")),
        (8, "float32", True),
    }
    assert {row.full_dim for row in rows} == {32}
    assert encoded["texts"] == 9 + 24  # each once
    assert len({round(row.score, 5) for row in rows}) > 3
    # rounding to 255 steps changes next to nothing
    assert found[32, "int8", False].score == pytest.approx(
        found[32, "float32", False].score, abs=0.1
    )
    (plain,) = score([model_folder], [retrieval])
    assert plain.score == pytest.approx(found[32, "float32", False].score, abs=1e-5)


def test_differences_are_of_the_same_items(score, model_folder, sts, retrieval, tmp_path):
    other = write_model(tmp_path / "other", seed=2)
    copy = write_model(tmp_path / "copy", seed=1)
    rows = score([model_folder, other, copy], [sts, retrieval], compare_with="tiny")
    by_model = {(row.model, row.task): row for row in rows}
    for task in ("alike", "find"):
        base, row, same = (by_model[name, task] for name in ("tiny", "other", "copy"))
        assert (base.compared_with, base.difference) == (None, None)
        assert row.compared_with == "tiny"
        assert row.difference == row.score - base.score != 0
        assert row.difference_low <= row.difference <= row.difference_high
        assert (same.difference, same.difference_low, same.difference_high) == (0, 0, 0)


@pytest.mark.slow
def test_differences_are_the_same_for_kept_results(score, model_folder, retrieval, tmp_path):
    other = write_model(tmp_path / "other", seed=2)
    _, first = score([model_folder, other], [retrieval], compare_with="tiny")
    _, second = score([model_folder, other], [retrieval], compare_with="tiny")
    assert (first.difference_low, first.difference_high) == (
        second.difference_low, second.difference_high,
    )  # fmt: skip
    assert read_scores(tmp_path / "out")[1] == second


def test_data_that_is_not_here_is_asked_for_once(bench, score, model_folder, sts, tmp_path):
    other = write_model(tmp_path / "other", seed=2)
    asked = []

    def load_data(*_, **__):
        asked.append(1)
        raise ConnectionError("offline")

    task = bench.mteb.get_task("STS12")
    task.load_data = load_data
    rows = score([model_folder, other], [task, sts])
    assert [row.error for row in rows] == [bench.run.NO_DATA, None] * 2
    assert len(asked) == 1


def test_what_is_scored_needs_no_data(bench, score, model_folder, sts, tmp_path):
    (first,) = score([model_folder], [sts])

    def load_data(*_, **__):
        raise ConnectionError("offline")

    task = bench.local_tasks.local_task(read_local_task(sts))
    task.load_data, task.data_loaded = load_data, False
    (second,) = score([model_folder], [task])
    assert second.score == pytest.approx(first.score, abs=1e-5)
    (third,) = score([model_folder], [task], out="new")
    assert third.error == bench.run.NO_DATA


def test_an_aggregate_is_a_task_and_needs_the_data_of_its_parts(
    bench, score, model_folder, monkeypatch
):
    from mteb.mocks.mock_tasks.reranking import MockAggregatedTask

    task = MockAggregatedTask()
    (row,) = score([model_folder], [task])
    assert row.score is not None and row.error is None and row.num_items is None

    def load_data(*_, **__):
        raise ConnectionError("offline")

    part = task.tasks[1]  # of all aggregates of this class
    monkeypatch.setattr(part, "load_data", load_data)
    monkeypatch.setattr(part, "data_loaded", False)
    (row,) = score([model_folder], [task], out="new")
    assert row.error == bench.run.NO_DATA
