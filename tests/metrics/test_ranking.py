from types import SimpleNamespace

import numpy as np
import pytest
import pytrec_eval

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
