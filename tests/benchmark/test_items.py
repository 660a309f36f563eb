"""The parts of a score add up to what mteb says, for every score that has parts."""

import json

import numpy as np
import pytest

from kl3m_embeddings.benchmark.items import Items, items_of, pair_items, ranking_items
from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.local_tasks.folder import read_local_task
from tests.benchmark.folders import WRITERS

pytestmark = pytest.mark.filterwarnings("ignore")  # sklearn's, of small classes

CASES = [
    *(
        pytest.param(kind, metric, marks=pytest.mark.slow if kind == "Reranking" else ())
        for kind in ("Retrieval", "Reranking")
        for metric in (
            "ndcg_at_10", "ndcg_at_3", "map_at_5", "map_at_1000", "mrr_at_10", "recall_at_5",
        )
    ),
    ("STS", "cosine_spearman"),
    ("STS", "cosine_pearson"),
    ("PairClassification", "max_ap"),
    ("PairClassification", "cosine_ap"),
    ("PairClassification", "dot_ap"),
    ("PairClassification", "manhattan_ap"),
    ("Classification", "accuracy"),
]  # fmt: skip
WITHOUT = [
    ("STS", "euclidean_spearman"),
    ("PairClassification", "max_f1"),
    ("Classification", "f1"),
    ("Clustering", "v_measure"),
]


def evaluated(bench, make_model, folder, kind, metric, variant=None):
    """What mteb says, and the parts."""
    from kl3m_embeddings.benchmark.variants import Variant

    task = bench.local_tasks.local_task(
        read_local_task(WRITERS[kind](folder / "own", main_score=metric))
    )
    model = make_model()
    model.begin(task)
    model.variant = variant or Variant()
    ((_, _, score, items, _),), _ = bench.evaluate_task.evaluate_task(model, task, folder / "out")
    return score, items


@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_parts_add_up(bench, make_model, tmp_path, kind, metric):
    score, items = evaluated(bench, make_model, tmp_path, kind, metric)
    assert items.score == pytest.approx(score, abs=1e-4)
    assert len(items.values) == {"Retrieval": 9, "Reranking": 9, "Classification": 20}.get(kind, 30)
    assert 0 < score < 1 or kind == "STS"


@pytest.mark.parametrize(("kind", "metric"), WITHOUT)
def test_scores_without_parts_have_none(bench, make_model, tmp_path, kind, metric):
    score, items = evaluated(bench, make_model, tmp_path, kind, metric)
    assert score is not None
    assert items is None


@pytest.mark.parametrize("kind", ["Retrieval", "Reranking", "STS", "PairClassification"])
def test_parts_add_up_where_most_is_tied(bench, make_model, tmp_path, kind):
    """Two signs have few cosines."""
    from kl3m_embeddings.benchmark.variants import Variant

    metric = {"STS": "cosine_spearman", "PairClassification": "max_ap"}.get(kind, "mrr_at_10")
    variant = Variant(dim=2, dtype="binary")
    score, items = evaluated(bench, make_model, tmp_path, kind, metric, variant)
    assert items.score == pytest.approx(score, abs=1e-4)


def test_parts_survive_a_file_and_a_damaged_file_is_told(tmp_path):
    items = Items("spearman", np.array([0.25, -1.5]), np.array([1.0, 0.0]))
    path = tmp_path / "deep" / "items.json"
    items.save(path)
    read = Items.load(path)
    assert read.statistic == "spearman"
    np.testing.assert_array_equal(read.values, items.values)
    np.testing.assert_array_equal(read.answers, items.answers)
    assert Items.load(tmp_path / "none.json") is None
    saved = json.loads(path.read_text())
    damaged = [saved | change for change in ({"values": ["x"]}, {"answers": 1}, {"statistic": "?"})]
    for text in ("", "{}", path.read_text()[:20], *map(json.dumps, damaged)):
        path.write_text(text)
        with pytest.raises(DamagedError, match=r"items\.json: .*; the task is scored again"):
            Items.load(path)


def test_ties_are_broken_as_trec_eval_does():
    """The higher id is first, so the relevant d1 comes after d9."""
    items = ranking_items({"q": {"d1": 1}}, {"q": {"d1": 0.5, "d9": 0.5}}, "mrr_at_10")
    assert items.values.tolist() == [0.5]


def test_only_queries_that_were_asked_count():
    """As in pytrec_eval, which scores what is both judged and ranked."""
    judgements = {"asked": {"d1": 1}, "left out": {"d1": 1}}
    items = ranking_items(judgements, {"asked": {"d1": 0.5}}, "ndcg_at_10")
    assert items.values.tolist() == [1.0]


def test_a_query_without_relevant_documents_scores_nothing():
    judgements = {"a": {"d1": 1}, "b": {"d1": 0}}
    scores = {query: {"d1": 0.5} for query in judgements}
    assert ranking_items(judgements, scores, "ndcg_at_10").values.tolist() == [1.0, 0.0]


def test_queries_have_an_order_of_their_own():
    """Two models' files may name them in different orders."""
    judgements = {"a": {"d1": 1}, "b": {"d2": 1}}
    scores = {"a": {"d1": 0.5, "d2": 0.1}, "b": {"d1": 0.5, "d2": 0.1}}
    forth, back = (
        ranking_items(dict(sorted(judgements.items(), reverse=reverse)), given, "mrr_at_10")
        for reverse, given in ((False, scores), (True, dict(reversed(scores.items()))))
    )
    assert forth.values.tolist() == back.values.tolist() == [1.0, 0.5]


def test_the_best_similarity_is_the_maximum():
    predicted = {"cosine_scores": [0.1, 0.9], "manhattan_distances": [0.1, 0.9]}
    labels = [0, 1]
    assert pair_items(labels, predicted, "max_ap").score == 1
    assert pair_items(labels, predicted, "cosine_ap").score == 1
    assert pair_items(labels, predicted, "manhattan_ap").score == 0.5


class FakeTask:
    """As much of a task as its parts ask for."""

    def __init__(self, kind, metric, data, **attributes):
        self.metadata = type("Metadata", (), {"type": kind, "main_score": metric})
        self.dataset = {"default": {"test": data}}
        self.label_column_name = "labels"
        self.__dict__ |= attributes


def test_parts_that_do_not_add_up_are_none():
    task = FakeTask("STS", "cosine_spearman", {"score": [0, 1, 2]})
    predicted = {"cosine_scores": [0.1, 0.2, 0.3]}
    assert items_of(task, predicted, "test", "default", 1.0) is not None
    assert items_of(task, predicted, "test", "default", 0.9) is None


def test_pairs_of_older_tasks_are_lists_in_one_row():
    task = FakeTask("PairClassification", "cosine_ap", {"labels": [[0, 1, 1]]})
    predicted = {"cosine_scores": [0.1, 0.2, 0.3]}
    assert items_of(task, predicted, "test", "default", 1.0).score == 1


def test_predictions_of_other_texts_are_no_parts():
    """Cross-validation predicts each fold's texts, in an order of its own."""
    task = FakeTask("Classification", "accuracy", {"labels": [0, 1, 1]})
    assert items_of(task, [[0, 1], [1]], "test", "default", 1.0) is None
    assert items_of(task, [[0, 1, 1], [0, 1, 1]], "test", "default", 1.0).score == 1


def test_documents_that_mteb_leaves_out_are_left_out():
    """A query that is a document, too, does not find itself; or the first is never counted."""
    data = {"relevant_docs": {"x": {"d": 1}}}
    predicted = {"x": {"x": 0.9, "d": 0.5}}
    task = FakeTask("Retrieval", "mrr_at_10", data, ignore_identical_ids=True)
    assert items_of(task, predicted, "test", "default", 1.0).values.tolist() == [1.0]
    task = FakeTask("Retrieval", "mrr_at_10", data, skip_first_result=True)
    assert items_of(task, predicted, "test", "default", 1.0).values.tolist() == [1.0]


def test_the_file_of_parts_is_plain_json(tmp_path):
    Items("mean", np.array([1.0]), np.empty(0)).save(tmp_path / "items.json")
    assert json.loads((tmp_path / "items.json").read_text()) == {
        "statistic": "mean",
        "values": [1.0],
        "answers": [],
    }
