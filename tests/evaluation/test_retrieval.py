"""Queries and their documents: as trec_eval measures them."""

import numpy as np
import pytest
import pytrec_eval
from scipy import stats

from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from tests.data.pair_sets.in_memory import distinct_rows, pair_set
from tests.evaluation.pairs_and_vectors import (
    SIZE,
    cosine,
    embed,
    graded,
    judged,
    normals,
    retrieval_set,
    signs,
)


@pytest.mark.parametrize(
    ("vectors", "dims"), [(signs(60), [4]), (normals(60), [4, 9])], ids=["ties", "no ties"]
)
def test_retrieval_is_trec_evals(vectors, dims):
    pairs = retrieval_set()
    evaluation = PairEvaluation.build("nq", pairs)
    found = evaluation.evaluate(embed(vectors), embed(vectors), dims)
    documents = evaluation.judgements.document_ids.tolist()
    # Of equal scores, trec_eval ranks the higher name first.
    names = {text: f"{len(documents) - place:03}" for place, text in enumerate(documents)}
    relevant = judged(pairs)
    qrels = {f"q{q}": {names[one]: 1 for one in texts} for q, texts in relevant.items()}
    for dim in (SIZE, *dims):
        run = {
            f"q{q}": {
                names[d]: float(cosine(vectors[q, :dim], vectors[d, :dim]))
                for d in documents
                if d != q
            }
            for q in relevant
        }
        measures = {"ndcg_cut.10", "recip_rank", "recall.1,10,100"}
        theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run).values()
        ranks = [one["recip_rank"] for one in theirs]
        expected = {
            "ndcg@10": np.mean([one["ndcg_cut_10"] for one in theirs]),
            "mrr@10": np.mean([rank if rank > 0.099 else 0 for rank in ranks]),
            **{
                f"recall@{k}": np.mean([one[f"recall_{k}"] for one in theirs]) for k in (1, 10, 100)
            },
        }
        suffix = "" if dim == SIZE else f"/{dim}"
        ours = {name: found[f"nq/{name}{suffix}"] for name in expected}
        assert ours == pytest.approx(expected, rel=1e-6)
        assert 0 < ours["recall@10"] < 1
    assert found["nq/num_queries"] == len(relevant)
    assert found["nq/num_documents"] == len(documents)
    assert len(found) == 2 + 5 * (1 + len(dims))


@pytest.mark.parametrize("num_negatives", [0, 1])
def test_a_collapsed_model_retrieves_by_chance(num_negatives):
    rows = distinct_rows(500, num_negatives)
    vectors = np.ones((len(rows) * (2 + num_negatives), SIZE), np.float32)
    found = PairEvaluation.build("x", pair_set(rows)).evaluate(embed(vectors), embed(vectors))
    num_documents = found["x/num_documents"]
    assert num_documents == 500 * (1 + num_negatives)
    assert found["x/recall@1"] <= 1 / 500
    assert found["x/recall@100"] == pytest.approx(100 / num_documents, rel=0.3)
    assert found["x/ndcg@10"] < 20 / num_documents


def test_the_order_of_ties_is_that_of_no_file():
    """The right document of row r is at place r in no order that a model could have learnt."""
    documents = PairEvaluation.build("x", pair_set(distinct_rows(500))).judgements.document_ids
    assert abs(stats.spearmanr(documents, np.arange(500))[0]) < 0.15


def test_a_query_is_not_relevant_to_itself():
    vectors = normals(3)
    with_itself = PairEvaluation.build("x", pair_set([(0, [1, 0], [2])]))
    found = with_itself.evaluate(embed(vectors), embed(vectors))
    assert found["x/recall@100"] == 1
    without = PairEvaluation.build("x", pair_set([(0, [1], [2, 0])]))
    assert without.evaluate(embed(vectors), embed(vectors)) == found
    nothing = PairEvaluation.build("x", pair_set([(0, [0], [1])]))
    assert nothing.evaluate(embed(vectors), embed(vectors))["x/ndcg@10"] == 0


def test_some_rows_are_asked_among_all_documents():
    pairs = retrieval_set()
    whole = PairEvaluation.build("x", pairs).judgements
    part = PairEvaluation.build("x", pairs, max_rows=5).judgements
    same, other = (PairEvaluation.build("x", pairs, max_rows=5, seed=seed) for seed in (0, 1))
    assert 1 < len(part.query_ids) <= 5
    assert part.query_ids.tolist() == same.judgements.query_ids.tolist()
    assert part.query_ids.tolist() != other.judgements.query_ids.tolist()
    assert part.document_ids.tolist() == whole.document_ids.tolist()
    relevant = judged(pairs)
    for place, query in enumerate(part.query_ids.tolist()):
        places = part.relevant[slice(*part.relevant_starts[place : place + 2])]
        assert set(part.document_ids[places].tolist()) == relevant[query]
    labelled = PairEvaluation.build("x", graded(), max_rows=7).judgements
    assert labelled.counts() == {"num_pairs": 7}
    assert PairEvaluation.build("x", pairs, max_rows=99).judgements.counts() == whole.counts()


def test_documents_beyond_the_limit_are_left_out_but_for_the_relevant():
    pairs = pair_set(distinct_rows(50, num_negatives=3))
    limited = PairEvaluation.build("x", pairs, max_rows=10, max_documents=30).judgements
    relevant = {text for query in limited.query_ids.tolist() for text in judged(pairs)[query]}
    assert len(set(limited.document_ids.tolist())) == 30
    assert relevant <= set(limited.document_ids.tolist())
    least = PairEvaluation.build("x", pairs, max_rows=10, max_documents=3).judgements
    assert set(least.document_ids.tolist()) == relevant
    vectors = normals(250)
    evaluation = PairEvaluation.build("x", pairs, max_rows=10, max_documents=3)
    assert evaluation.evaluate(embed(vectors), embed(vectors))["x/recall@10"] == 1
