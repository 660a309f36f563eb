"""Held-out pairs of every kind: as sentence-transformers measures them, cut, or in blocks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kl3m_embeddings.evaluation import labelled_pairs, retrieval
from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from kl3m_embeddings.metrics.labelled import roc_auc, spearman
from kl3m_embeddings.metrics.vectors import SIMILARITIES, unit_vectors
from tests.data.pair_sets.in_memory import pair_set
from tests.evaluation.pairs_and_vectors import (
    binary,
    embed,
    graded,
    judged,
    labelled_set,
    normals,
    retrieval_set,
    signs,
)


def test_what_is_measured_follows_from_the_labels():
    vectors = normals(60)
    thresholds = {"x/accuracy_threshold", "x/f1_threshold"}
    for pairs, kind, main, metrics in (
        (graded(), "similarity", "spearman", ("spearman", "pearson")),
        (binary(), "classification", "ap", ("ap", "auc", "accuracy", "f1")),
    ):
        evaluation = PairEvaluation.build("x", pairs)
        assert (evaluation.kind, evaluation.main_metric) == (kind, f"x/{main}")
        found = evaluation.evaluate(embed(vectors), embed(vectors), [4, 16, 99])
        expected = {f"x/{name}{suffix}" for name in metrics for suffix in ("", "/4")}
        assert set(found) - thresholds == expected | {"x/num_pairs"}
        assert thresholds <= set(found) or kind == "similarity"
    assert PairEvaluation.build("x", retrieval_set()).kind == "retrieval"
    assert PairEvaluation.build("x", retrieval_set()).main_metric == "x/ndcg@10"
    some = [
        PairEvaluation.build("x", labelled_set([0, 1, 0.5, 1]), max_rows=1, seed=seed)
        for seed in range(9)
    ]
    assert {one.kind for one in some} == {"similarity"}


class Stub:
    """A model whose texts are numbers of vectors."""

    similarity_fn_name = "cosine"
    model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, *, truncate_dim, convert_to_tensor=False, **_):
        import torch

        vectors = self.vectors[[int(text) for text in texts]][:, :truncate_dim]
        return torch.tensor(vectors) if convert_to_tensor else vectors

    encode_query = encode_document = encode

    def similarity(self, first, second):
        from sentence_transformers.util import cos_sim

        return cos_sim(first, second)


@pytest.mark.slow  # their import alone takes 10 s
def test_all_are_those_of_sentence_transformers():
    from sentence_transformers.sentence_transformer import evaluation

    vectors = normals(60)
    for dim, suffix in ((None, ""), (9, "/9")):
        pairs, labels = graded(), graded().labels.tolist()
        found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors), [9])
        texts = [pairs.queries.astype(str).tolist(), pairs.positives.astype(str).tolist()]
        theirs = evaluation.EmbeddingSimilarityEvaluator(*texts, labels, truncate_dim=dim)(
            Stub(vectors)
        )
        for name in ("spearman", "pearson"):
            assert found[f"x/{name}{suffix}"] == pytest.approx(theirs[f"{name}_cosine"], rel=1e-5)

        pairs, labels = binary(), binary().labels.astype(int).tolist()
        found = PairEvaluation.build("x", pairs).evaluate(embed(vectors), embed(vectors), [9])
        texts = [pairs.queries.astype(str).tolist(), pairs.positives.astype(str).tolist()]
        theirs = evaluation.BinaryClassificationEvaluator(*texts, labels, truncate_dim=dim)(
            Stub(vectors)
        )
        for name in ("ap", "accuracy", "f1", "accuracy_threshold", "f1_threshold"):
            if dim is None or not name.endswith("threshold"):
                key = f"x/{name}{suffix}"
                assert found[key] == pytest.approx(theirs[f"cosine_{name}"], rel=1e-5)

        # Theirs ranks the query's own text: take documents that are no queries.
        rows = [(q % 8, [8 + q, 9 + q], [20 + q]) for q in range(30)]
        found = PairEvaluation.build("x", pair_set(rows)).evaluate(
            embed(vectors), embed(vectors), [9]
        )
        relevant = {str(q): set(map(str, d)) for q, d in judged(pair_set(rows)).items()}
        documents = {str(d): str(d) for d in range(8, 50)}
        theirs = evaluation.InformationRetrievalEvaluator(
            {q: q for q in relevant}, documents, relevant, truncate_dim=dim,
            precision_recall_at_k=[1, 10, 100],
        )(Stub(vectors))  # fmt: skip
        for name in ("ndcg@10", "mrr@10", "recall@1", "recall@10", "recall@100"):
            assert found[f"x/{name}{suffix}"] == pytest.approx(theirs[f"cosine_{name}"], rel=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_vectors_are_compared_by_the_runs_similarity_at_every_size(name):
    """By hand: one score after another."""
    vectors, alike = normals(60), SIMILARITIES[name]
    vectors *= np.random.default_rng(4).uniform(0.2, 5, (60, 1)).astype(np.float32)
    rows = [(q % 8, [8 + q, 9 + q], [20 + q]) for q in range(30)]
    sets = {"retrieval": pair_set(rows), "graded": graded(), "binary": binary()}
    for kind, pairs in sets.items():
        build = PairEvaluation.build("x", pairs, similarity=name)
        found = build.evaluate(embed(vectors), embed(vectors), [9])
        for dim, suffix in ((16, ""), (9, "/9")):
            table = alike(vectors[:, :dim], vectors[:, :dim])
            if kind == "retrieval":
                best = {q: 8 + table[q, 8:50].argmax() for q in range(8)}
                relevant = judged(pairs)
                expected = np.mean([(best[q] in relevant[q]) / len(relevant[q]) for q in range(8)])
                metric = "recall@1"
            else:
                scores = table[pairs.queries, pairs.positives]
                metric, measure = {
                    "graded": ("spearman", spearman),
                    "binary": ("auc", roc_auc),
                }[kind]
                expected = measure(scores, pairs.labels)
            assert found[f"x/{metric}{suffix}"] == pytest.approx(expected, rel=1e-5)


def test_what_a_model_cuts_off_is_not_measured():
    """Its full size is what it keeps; sizes beyond that have no fields."""
    vectors = normals(60)
    cut = PairEvaluation.build("x", retrieval_set(), similarity="dot", truncate_dim=9)
    whole = PairEvaluation.build("x", retrieval_set(), similarity="dot")
    found = cut.evaluate(embed(vectors), embed(vectors), [16, 9, 4])
    assert found == whole.evaluate(embed(vectors[:, :9]), embed(vectors[:, :9]), [4])
    assert set(cut.fields([16, 9, 4])) == found.keys() - {"x/num_queries", "x/num_documents"}


@pytest.mark.parametrize("name", ["dot", "euclidean", "manhattan"])
def test_vectors_whose_similarities_overflow_have_no_metrics(name):
    evaluation = PairEvaluation.build("x", graded(), similarity=name)
    found = evaluation.evaluate(embed(normals(60) * np.float32(1e30)), embed(normals(60)), [])
    assert found == {"x/spearman": None, "x/pearson": None, "x/num_pairs": 60}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [graded, binary, retrieval_set])
def test_embeddings_that_are_not_finite_have_no_metrics(make, value):
    vectors = normals(60)
    vectors[:, 5] = value
    found = PairEvaluation.build("x", make()).evaluate(embed(vectors), embed(normals(60)), [4])
    none = {key for key, number in found.items() if number is None}
    assert none == {key for key in found if not key.endswith("/4") and "num_" not in key}
    swapped = PairEvaluation.build("x", make()).evaluate(embed(normals(60)), embed(vectors), [4])
    assert {key for key, number in swapped.items() if number is None} == none


def test_only_the_direction_of_a_vector_counts():
    """However long it is: squares of these would overflow, or vanish."""
    vectors = signs(60)
    powers = np.random.default_rng(3).integers(-120, 120, (60, 1))
    scales = np.ldexp(np.float32(1), powers)
    for pairs in (graded(), binary(), retrieval_set()):
        evaluation = PairEvaluation.build("x", pairs)
        plain = evaluation.evaluate(embed(vectors), embed(vectors), [4])
        assert evaluation.evaluate(embed(vectors * scales), embed(vectors), [4]) == plain
    assert not unit_vectors(np.zeros((2, 3), np.float32)).any()


def test_sets_of_one_row():
    vectors = normals(3)
    found = PairEvaluation.build("x", pair_set([(0, [1], [2])])).evaluate(
        embed(vectors), embed(vectors), [4]
    )
    assert found["x/recall@10"] == found["x/recall@100/4"] == 1
    assert found["x/ndcg@10"] in (1, pytest.approx(1 / np.log2(3)))
    one = replace(pair_set([(0, [1], [])]), labels=np.ones(1, np.float32))
    found = PairEvaluation.build("x", one).evaluate(embed(vectors), embed(vectors))
    assert (found["x/ap"], found["x/auc"], found["x/num_pairs"]) == (1, None, 1)
    one = replace(one, labels=np.full(1, 0.5, np.float32))
    found = PairEvaluation.build("x", one).evaluate(embed(vectors), embed(vectors))
    assert (found["x/spearman"], found["x/pearson"]) == (None, None)


def test_blocks_change_nothing(monkeypatch):
    vectors = signs(60)
    whole = [
        PairEvaluation.build("x", make()).evaluate(embed(vectors), embed(vectors), [4])
        for make in (graded, binary, retrieval_set)
    ]
    monkeypatch.setattr(labelled_pairs, "BLOCK_PAIRS", 7)
    monkeypatch.setattr(retrieval, "BLOCK_SCORES", 3 * 16 * retrieval.DEPTH)
    for expected, make in zip(whole, (graded, binary, retrieval_set), strict=True):
        evaluation = PairEvaluation.build("x", make())
        found = evaluation.evaluate(embed(vectors), embed(vectors), [4])
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("make", [graded, retrieval_set])
def test_each_text_is_embedded_once_a_role(make):
    pairs, vectors, asked = make(), normals(60), []

    class Model:
        def embed(self, ids):
            asked.append(ids.tolist())
            return vectors[ids]

    evaluation, model = PairEvaluation.build("x", pairs), Model()
    apart = evaluation.evaluate(model.embed, lambda ids: model.embed(ids), [4])
    queries = set(pairs.queries.tolist())
    documents = {*pairs.positives.tolist(), *pairs.negatives.tolist()}
    assert [sorted(ids) for ids in asked] == [sorted(queries), sorted(documents)]
    asked.clear()
    assert evaluation.evaluate(model.embed, model.embed, [4]) == apart
    assert [sorted(ids) for ids in asked] == [sorted(queries | documents)]


def test_a_stop_ends_it():
    evaluation, vectors = PairEvaluation.build("x", retrieval_set()), normals(60)

    def stopped(ids):
        return None

    assert evaluation.evaluate(stopped, stopped) is None
    assert evaluation.evaluate(embed(vectors), stopped) is None
    assert evaluation.evaluate(stopped, embed(vectors)) is None


def labelled(rows, labels):
    return replace(pair_set(rows), labels=np.array(labels, np.float32))


SAME_FOR_EVERY_MODEL = {
    "every label is 1": labelled([(0, [1], []), (2, [3], [])], [1, 1]),
    "every label is 3.5": labelled([(0, [1], []), (2, [3], [])], [3.5, 3.5]),
    "every label is 0": labelled([(0, [1], [])], [0]),
    "every pair is of the same two texts": labelled([(0, [1], [])] * 2, [0, 1]),
    "both texts of every pair are the same": labelled([(0, [0], []), (1, [1], [])], [0, 1]),
    "every document is right for every query": pair_set([(0, [1], [])]),
    "every document is right for every query: ": pair_set([(0, [2], []), (1, [2], [])]),
    "every document is right for every query: add": pair_set([(0, [1], []), (0, [2, 3], [])]),
    "every document is right for every query: add ": pair_set([(0, [1, 0], [])]),
    "every positive is its own query": pair_set([(0, [0], []), (1, [1], [])]),
}


@pytest.mark.parametrize(("problem", "pairs"), SAME_FOR_EVERY_MODEL.items())
def test_a_set_that_gives_every_model_one_score_is_told(problem, pairs):
    """The rule is right: models as unlike as can be have one score, or none."""
    evaluation = PairEvaluation.build("x", pairs)
    assert problem in evaluation.problem()
    metric = evaluation.main_metric
    models = [embed(signs(9, seed)) for seed in range(20)]  # whose cosines are exact
    assert len({evaluation.evaluate(one, one)[metric] for one in models}) == 1


@pytest.mark.parametrize(
    "pairs",
    [
        graded(),
        binary(),
        retrieval_set(),
        labelled([(0, [1], []), (0, [2], [])], [0, 1]),
        pair_set([(0, [1], []), (2, [3], [])]),
        pair_set([(0, [1], [2])]),
        pair_set([(0, [1], []), (2, [1], []), (2, [3], [])]),
    ],
)
def test_a_set_by_which_models_differ_is_taken(pairs):
    evaluation = PairEvaluation.build("x", pairs)
    assert evaluation.problem() is None
    models = [embed(normals(60, seed)) for seed in range(20)]
    assert len({evaluation.evaluate(one, one)[evaluation.main_metric] for one in models}) > 1
