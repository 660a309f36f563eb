"""How good embeddings are: retrieval, labelled pairs, graded pairs. numpy only.

Retrieval, in two steps, fast for 10,000 queries and any number of documents:

1. the caller ranks the best documents of each query, by argpartition of its scores, say;
   `grade_ranking` looks up how relevant they are;
2. each metric gives one value a query, of which the caller takes the mean.

Definitions are trec_eval's, as in pytrec_eval (https://github.com/cvangysel/pytrec_eval): a grade
above 0 is relevant, and a query without relevant documents scores 0. Which of two equally scored
documents ranks first is the caller's choice; trec_eval's is the higher name.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, Num


@dataclass(frozen=True)
class RankedGrades:
    """How relevant documents are: a grade, 0 where not, in two orders."""

    retrieved: Float[np.ndarray, "queries depth"]
    """Of the documents that were found, best score first."""
    ideal: Float[np.ndarray, "queries most_judged"]
    """Of all judged documents, highest grade first, then zeros."""


def grade_ranking(
    ranking: Int[np.ndarray, "queries depth"],
    queries: Int[np.ndarray, " judgements"],
    documents: Int[np.ndarray, " judgements"],
    grades: Num[np.ndarray, " judgements"],
) -> RankedGrades:
    """Look up the grades of ranked documents.

    Args:
        ranking: each query's documents by number, best first; -1 where there is no more. Not less
            deep than the metrics' k, unless these are all documents.
        queries: of each judgement, as row of `ranking`.
        documents: of each judgement; no pair of query and document twice.
        grades: of each judgement; below 0 counts as 0.
    """
    assert len(queries), "no judgements"
    num_documents = int(max(ranking.max(initial=0), documents.max())) + 1
    keys = queries.astype(np.int64) * num_documents + documents
    order = np.argsort(keys)
    sorted_keys = keys[order]
    sorted_grades = np.maximum(grades[order], 0).astype(np.float64)
    assert (np.diff(sorted_keys) > 0).all(), "a document is judged twice for one query"
    wanted = np.arange(len(ranking))[:, None] * num_documents + ranking
    positions = np.minimum(np.searchsorted(sorted_keys, wanted), len(keys) - 1)
    is_judged = (sorted_keys[positions] == wanted) & (ranking >= 0)
    return RankedGrades(
        retrieved=np.where(is_judged, sorted_grades[positions], 0.0),
        ideal=_ideal_grades(len(ranking), queries[order], sorted_grades),
    )


def _ideal_grades(
    num_queries: int,
    queries: Int[np.ndarray, " judgements"],
    grades: Float[np.ndarray, " judgements"],
) -> Float[np.ndarray, "queries most_judged"]:
    order = np.lexsort((-grades, queries))
    num_judged = np.bincount(queries, minlength=num_queries)
    starts = np.cumsum(num_judged) - num_judged
    ideal = np.zeros((num_queries, num_judged.max()))
    ideal[queries[order], np.arange(len(order)) - starts[queries[order]]] = grades[order]
    return ideal


def grades_at_ranks(
    ranks: Int[np.ndarray, " relevant"], num_relevant: Int[np.ndarray, " queries"], depth: int
) -> RankedGrades:
    """Grades where only the ranks of the relevant documents are known: 1 there, 0 elsewhere.

    Args:
        ranks: of all queries' relevant documents, end to end; the best is 0, and no rank is twice
            in one query.
        num_relevant: of each query.
        depth: ranks from there on count as not retrieved.
    """
    queries = np.repeat(np.arange(len(num_relevant)), num_relevant)
    retrieved = np.zeros((len(num_relevant), depth))
    is_found = ranks < depth
    retrieved[queries[is_found], ranks[is_found]] = 1
    columns = np.arange(num_relevant.max(initial=0))
    return RankedGrades(retrieved, (columns < num_relevant[:, None]).astype(np.float64))


def ndcg_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, " queries"]:
    """Normalised discounted cumulative gain: grade / log2(rank + 1), over that of the best order.

    Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418; trec_eval's ndcg_cut.
    """
    return _ratio(_gain_at_k(grades.retrieved, k), _gain_at_k(grades.ideal, k))


def _gain_at_k(grades: Float[np.ndarray, "queries depth"], k: int) -> Float[np.ndarray, " queries"]:
    grades = grades[:, :k]
    gains: np.ndarray = grades @ (1 / np.log2(np.arange(grades.shape[1]) + 2))
    return gains


def mrr_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, " queries"]:
    """1 / rank of the first relevant document, 0 if it is beyond k: trec_eval's recip_rank."""
    relevant = grades.retrieved[:, :k] > 0
    return np.where(relevant.any(axis=1), 1 / (1 + relevant.argmax(axis=1)), 0.0)


def recall_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, " queries"]:
    """Share of the relevant documents that are among the first k: trec_eval's recall."""
    return _ratio((grades.retrieved[:, :k] > 0).sum(axis=1), (grades.ideal > 0).sum(axis=1))


def average_precision(grades: RankedGrades) -> Float[np.ndarray, " queries"]:
    """Mean over relevant documents of the precision at their rank: trec_eval's map.

    A relevant document that was not retrieved adds 0.
    """
    relevant = grades.retrieved > 0
    precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
    return _ratio((precision * relevant).sum(axis=1), (grades.ideal > 0).sum(axis=1))


def precision_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, " queries"]:
    """Share of the first k places that hold a relevant document: trec_eval's P."""
    shares: np.ndarray = (grades.retrieved[:, :k] > 0).sum(axis=1) / k
    return shares


def average_precision_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, " queries"]:
    """Average precision of the first k documents: trec_eval's map_cut."""
    return average_precision(replace(grades, retrieved=grades.retrieved[:, :k]))


RANKING_METRICS = {
    "ndcg": ndcg_at_k,
    "map": average_precision_at_k,
    "mrr": mrr_at_k,
    "recall": recall_at_k,
    "precision": precision_at_k,
}


def ranking_metric(name: str, grades: RankedGrades) -> Float[np.ndarray, " queries"] | None:
    """The metric that mteb calls so, as `ndcg_at_10`; None where it is not one of these."""
    kind, _, cut = name.rpartition("_at_")
    if kind not in RANKING_METRICS or not cut.isdecimal():
        return None
    return RANKING_METRICS[kind](grades, int(cut))


def _ratio(
    parts: Num[np.ndarray, " queries"], wholes: Num[np.ndarray, " queries"]
) -> Float[np.ndarray, " queries"]:
    """Their quotient; 0 where the whole is 0."""
    quotients = np.zeros(len(parts))
    np.divide(parts, wholes, out=quotients, where=wholes > 0)
    return quotients
