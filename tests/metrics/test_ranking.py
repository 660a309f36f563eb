import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from kl3m_embeddings.metrics.labelled import (
    best_accuracy,
    best_f1,
    binary_average_precision,
    pearson,
    roc_auc,
    spearman,
)
from kl3m_embeddings.metrics.ranking import (
    average_precision,
    grade_ranking,
    grades_at_ranks,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)

NUM_DOCUMENTS = 30


def judgements_of(generator, num_queries):
    """Grades 0..3 of some documents a query, in no order; a few queries have none above 0."""
    judged = [
        (query, document, int(grade))
        for query in range(num_queries)
        for document, grade in zip(
            generator.permutation(NUM_DOCUMENTS)[: generator.integers(1, 12)],
            generator.integers(0, 4, 12) * (query % 5 > 0),
            strict=False,
        )
    ]
    return [judged[place] for place in generator.permutation(len(judged))]


def ranking_with_ties(generator, num_queries, depth):
    """Few distinct scores; a tie is ranked as trec_eval does, the higher name first."""
    scores = generator.integers(0, 6, (num_queries, NUM_DOCUMENTS)) / 2
    names = np.broadcast_to(-np.arange(NUM_DOCUMENTS), scores.shape)
    return np.lexsort((names, -scores))[:, :depth], scores


@pytest.mark.parametrize("depth", [7, NUM_DOCUMENTS])
def test_retrieval_metrics_are_pytrec_evals(depth):
    generator = np.random.default_rng(0)
    judged = judgements_of(generator, 40)
    ranking, scores = ranking_with_ties(generator, 40, depth)
    qrels, run = {}, {}
    for query, document, grade in judged:
        qrels.setdefault(f"q{query}", {})[f"d{document:03}"] = grade
    for query, documents in enumerate(ranking):
        run[f"q{query}"] = {f"d{one:03}": float(scores[query, one]) for one in documents}
    measures = {"ndcg_cut.5,10", "recip_rank", "recall.5,10", "map"}
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, measures)
    theirs = evaluator.evaluate(run)
    grades = grade_ranking(ranking, *np.array(judged).T)
    ours = {
        "ndcg_cut_5": ndcg_at_k(grades, 5),
        "ndcg_cut_10": ndcg_at_k(grades, 10),
        "recip_rank": mrr_at_k(grades, depth),
        "recall_5": recall_at_k(grades, 5),
        "recall_10": recall_at_k(grades, 10),
        "map": average_precision(grades),
    }
    for name, values in ours.items():
        expected = [theirs[f"q{query}"][name] for query in range(40)]
        assert 0 < np.mean(expected) < 1
        assert 0 in expected
        np.testing.assert_allclose(values, expected, rtol=1e-6, err_msg=name)


def test_reciprocal_rank_is_cut_at_k():
    ranking = np.array([[3, 1, 0], [1, 3, 0], [0, 1, 3]])
    grades = grade_ranking(ranking, np.arange(3), np.full(3, 3), np.ones(3))
    assert mrr_at_k(grades, 2).tolist() == [1.0, 0.5, 0.0]
    assert mrr_at_k(grades, 10).tolist() == [1.0, 0.5, 1 / 3]


def test_a_ranking_may_end_early():
    ranking = np.array([[2, -1, -1], [5, 2, -1]])
    # Document 9 of query 0 has the key just below query 1's: -1 must not find it.
    grades = grade_ranking(ranking, np.array([0, 0, 1]), np.array([2, 9, 2]), np.array([1, 3, 2]))
    assert grades.retrieved.tolist() == [[1, 0, 0], [0, 2, 0]]
    assert grades.ideal.tolist() == [[3, 1], [2, 0]]


def test_grades_below_zero_are_zero():
    grades = grade_ranking(np.array([[0, 1]]), np.zeros(2, int), np.arange(2), np.array([-2, 1]))
    assert grades.retrieved.tolist() == [[0, 1]]
    assert grades.ideal.tolist() == [[1, 0]]


def test_nothing_may_be_judged_twice():
    with pytest.raises(AssertionError, match="judged twice"):
        grade_ranking(np.array([[0, 1]]), np.zeros(2, int), np.zeros(2, int), np.ones(2))


@pytest.mark.parametrize("depth", [3, NUM_DOCUMENTS])
def test_ranks_of_the_relevant_are_as_good_as_the_ranking(depth):
    generator = np.random.default_rng(2)
    ranking = np.array([generator.permutation(NUM_DOCUMENTS) for _ in range(20)])
    judged = [(q, d) for q in range(20) for d in generator.permutation(NUM_DOCUMENTS)[: q % 5]]
    queries, documents = np.array(judged).T
    ranks = np.argsort(ranking, axis=1)[queries, documents]
    found = grades_at_ranks(ranks, np.bincount(queries, minlength=20), depth)
    expected = grade_ranking(ranking[:, :depth], queries, documents, np.ones(len(queries)))
    assert found.retrieved.tolist() == expected.retrieved.tolist()
    assert found.ideal.tolist() == expected.ideal.tolist()


pairs = st.lists(
    st.tuples(st.integers(-4, 4).map(lambda n: n / 4), st.integers(0, 4)), min_size=2, max_size=30
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@given(pairs)
@settings(max_examples=60)
def test_correlations_are_scipys_with_ties(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        np.testing.assert_allclose(pearson(*pair), stats.pearsonr(*pair)[0], atol=1e-12)
        np.testing.assert_allclose(spearman(*pair), stats.spearmanr(*pair)[0], atol=1e-12)


def test_correlations_of_nearly_constant_values():
    """Far from zero: sums of squares would cancel."""
    first = 1e6 + np.arange(10.0)
    assert pearson(first, np.arange(10.0)) == pytest.approx(1.0)
    assert np.isnan(spearman(np.ones(4), np.arange(4)))


@given(pairs)
@settings(max_examples=60)
def test_auc_and_average_precision_are_sklearns_with_ties(pair):
    scores, labels = pair[0], pair[1] > 2
    if labels.any():
        expected = sklearn_metrics.average_precision_score(labels, scores)
        assert binary_average_precision(scores, labels) == pytest.approx(expected)
    else:
        assert np.isnan(binary_average_precision(scores, labels))
    if 0 < labels.sum() < len(labels):
        expected = sklearn_metrics.roc_auc_score(labels, scores)
        assert roc_auc(scores, labels) == pytest.approx(expected)
    else:
        assert np.isnan(roc_auc(scores, labels))


@given(pairs)
@settings(max_examples=60)
def test_the_best_threshold_beats_every_other(pair):
    scores, labels = pair[0], pair[1] > 2
    candidates = [np.inf, *np.unique(scores)]
    for best, metric in (
        (best_accuracy, sklearn_metrics.accuracy_score),
        (best_f1, lambda *both: sklearn_metrics.f1_score(*both, zero_division=0.0)),
    ):
        value, threshold = best(scores, labels)
        values = [metric(labels, scores >= candidate) for candidate in candidates]
        assert value == pytest.approx(max(values))
        assert value == pytest.approx(metric(labels, scores >= threshold))
        assert np.isfinite(threshold)


def test_thresholds_between_neighbouring_floats_part_them():
    for low in (1.0, 0.7, -0.3):
        for dtype in (np.float32, np.float64):
            scores = np.array([low, np.nextafter(dtype(low), dtype(2))], dtype)
            assert best_accuracy(scores, np.array([0, 1])).value == 1
            assert (scores >= best_accuracy(scores, np.array([0, 1])).threshold).tolist() == [0, 1]


@pytest.mark.slow
@given(pairs)
@settings(max_examples=60)
def test_thresholds_are_those_of_sentence_transformers(pair):
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    scores, labels = pair[0], (pair[1] > 2).astype(int)
    theirs = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
    assert best_accuracy(scores, labels) == pytest.approx(theirs)
    f1, _, _, threshold = BinaryClassificationEvaluator.find_best_f1_and_threshold(
        scores, labels, True
    )
    assert best_f1(scores, labels).value == pytest.approx(f1)
    if f1 > 0:  # without positives their threshold is 0, ours above the highest score
        assert best_f1(scores, labels).threshold == pytest.approx(threshold)


@pytest.mark.slow
def test_retrieval_metrics_are_those_of_sentence_transformers():
    """With grades 0 and 1; their average precision is cut, and ours of the whole ranking."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    generator = np.random.default_rng(1)
    ranking = np.array([generator.permutation(NUM_DOCUMENTS) for _ in range(25)])
    judged = [(q, d) for q in range(25) for d in generator.permutation(NUM_DOCUMENTS)[: 1 + q % 4]]
    evaluator = SimpleNamespace(
        accuracy_at_k=[], precision_recall_at_k=[10], mrr_at_k=[10], ndcg_at_k=[10],
        map_at_k=[NUM_DOCUMENTS], queries=range(25), queries_ids=range(25),
        relevant_docs={q: {d for other, d in judged if other == q} for q in range(25)},
        compute_dcg_at_k=InformationRetrievalEvaluator.compute_dcg_at_k,
    )  # fmt: skip
    results = [
        [{"corpus_id": d, "score": -rank} for rank, d in enumerate(row)] for row in ranking.tolist()
    ]
    theirs = InformationRetrievalEvaluator.compute_metrics(evaluator, results)
    queries, documents = np.array(judged).T
    grades = grade_ranking(ranking, queries, documents, np.ones(len(queries)))
    assert ndcg_at_k(grades, 10).mean() == pytest.approx(theirs["ndcg@k"][10])
    assert mrr_at_k(grades, 10).mean() == pytest.approx(theirs["mrr@k"][10])
    assert recall_at_k(grades, 10).mean() == pytest.approx(theirs["recall@k"][10])
    assert average_precision(grades).mean() == pytest.approx(theirs["map@k"][NUM_DOCUMENTS])
