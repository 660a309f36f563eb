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
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num, Shaped


@dataclass(frozen=True)
class RankedGrades:
    """How relevant documents are: a grade, 0 where not, in two orders."""

    retrieved: Float[np.ndarray, "queries depth"]
    """Of the documents that were found, best score first."""
    ideal: Float[np.ndarray, "queries most_judged"]
    """Of all judged documents, highest grade first, then zeros."""


def grade_ranking(
    ranking: Int[np.ndarray, "queries depth"],
    queries: Int[np.ndarray, "judgements"],
    documents: Int[np.ndarray, "judgements"],
    grades: Num[np.ndarray, "judgements"],
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
    places = np.minimum(np.searchsorted(sorted_keys, wanted), len(keys) - 1)
    is_judged = (sorted_keys[places] == wanted) & (ranking >= 0)
    return RankedGrades(
        retrieved=np.where(is_judged, sorted_grades[places], 0.0),
        ideal=_ideal_grades(len(ranking), queries[order], sorted_grades),
    )


def _ideal_grades(
    num_queries: int,
    queries: Int[np.ndarray, "judgements"],
    grades: Float[np.ndarray, "judgements"],
) -> Float[np.ndarray, "queries most_judged"]:
    order = np.lexsort((-grades, queries))
    num_judged = np.bincount(queries, minlength=num_queries)
    starts = np.cumsum(num_judged) - num_judged
    ideal = np.zeros((num_queries, num_judged.max()))
    ideal[queries[order], np.arange(len(order)) - starts[queries[order]]] = grades[order]
    return ideal


def grades_at_ranks(
    ranks: Int[np.ndarray, "relevant"], num_relevant: Int[np.ndarray, "queries"], depth: int
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


def ndcg_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, "queries"]:
    """Normalised discounted cumulative gain: grade / log2(rank + 1), over that of the best order.

    Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418; trec_eval's ndcg_cut.
    """
    return _ratio(_gain_at_k(grades.retrieved, k), _gain_at_k(grades.ideal, k))


def _gain_at_k(grades: Float[np.ndarray, "queries depth"], k: int) -> Float[np.ndarray, "queries"]:
    grades = grades[:, :k]
    gains: np.ndarray = grades @ (1 / np.log2(np.arange(grades.shape[1]) + 2))
    return gains


def mrr_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, "queries"]:
    """1 / rank of the first relevant document, 0 if it is beyond k: trec_eval's recip_rank."""
    relevant = grades.retrieved[:, :k] > 0
    return np.where(relevant.any(axis=1), 1 / (1 + relevant.argmax(axis=1)), 0.0)


def recall_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, "queries"]:
    """Share of the relevant documents that are among the first k: trec_eval's recall."""
    return _ratio((grades.retrieved[:, :k] > 0).sum(axis=1), (grades.ideal > 0).sum(axis=1))


def average_precision(grades: RankedGrades) -> Float[np.ndarray, "queries"]:
    """Mean over relevant documents of the precision at their rank: trec_eval's map.

    A relevant document that was not retrieved adds 0.
    """
    relevant = grades.retrieved > 0
    precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
    return _ratio((precision * relevant).sum(axis=1), (grades.ideal > 0).sum(axis=1))


def precision_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, "queries"]:
    """Share of the first k places that hold a relevant document: trec_eval's P."""
    shares: np.ndarray = (grades.retrieved[:, :k] > 0).sum(axis=1) / k
    return shares


def average_precision_at_k(grades: RankedGrades, k: int) -> Float[np.ndarray, "queries"]:
    """Average precision of the first k documents: trec_eval's map_cut."""
    return average_precision(replace(grades, retrieved=grades.retrieved[:, :k]))


RANKING_METRICS = {
    "ndcg": ndcg_at_k,
    "map": average_precision_at_k,
    "mrr": mrr_at_k,
    "recall": recall_at_k,
    "precision": precision_at_k,
}


def ranking_metric(name: str, grades: RankedGrades) -> Float[np.ndarray, "queries"] | None:
    """The metric that mteb calls so, as `ndcg_at_10`; None where it is not one of these."""
    kind, _, cut = name.rpartition("_at_")
    if kind not in RANKING_METRICS or not cut.isdecimal():
        return None
    return RANKING_METRICS[kind](grades, int(cut))


def _ratio(
    parts: Num[np.ndarray, "queries"], wholes: Num[np.ndarray, "queries"]
) -> Float[np.ndarray, "queries"]:
    """Their quotient; 0 where the whole is 0."""
    quotients = np.zeros(len(parts))
    np.divide(parts, wholes, out=quotients, where=wholes > 0)
    return quotients


def pearson(first: Num[np.ndarray, "pairs"], second: Num[np.ndarray, "pairs"]) -> float:
    """Pearson's correlation; NaN if either side is constant. As scipy.stats.pearsonr."""
    centred = [values - values.mean() for values in (first.astype(float), second.astype(float))]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    unit_first, unit_second = (values / np.linalg.norm(values) for values in centred)
    return float(unit_first @ unit_second)


def spearman(first: Num[np.ndarray, "pairs"], second: Num[np.ndarray, "pairs"]) -> float:
    """Pearson's correlation of ranks, ties having their mean rank. As scipy.stats.spearmanr."""
    return pearson(_mean_ranks(first), _mean_ranks(second))


def _mean_ranks(values: Num[np.ndarray, "pairs"]) -> Float[np.ndarray, "pairs"]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def roc_auc(scores: Num[np.ndarray, "pairs"], labels: Shaped[np.ndarray, "pairs"]) -> float:
    """Probability that a positive scores higher than a negative; a tie counts half.

    NaN if there is one kind only. Mann and Whitney 1947, https://doi.org/10.1214/aoms/1177730491;
    as sklearn.metrics.roc_auc_score.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    positive = labels.astype(bool)
    num_positives = positive.sum()
    num_pairs = num_positives * (len(labels) - num_positives)
    if num_pairs == 0:
        return float("nan")
    num_wins = _mean_ranks(scores)[positive].sum() - num_positives * (num_positives + 1) / 2
    return float(num_wins / num_pairs)


def binary_average_precision(
    scores: Num[np.ndarray, "pairs"], labels: Shaped[np.ndarray, "pairs"]
) -> float:
    """Area under precision over recall, in steps. As sklearn.metrics.average_precision_score.

    NaN if there is no positive.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    cuts = _cuts(scores, labels)
    num_positives = cuts.num_found[-1]
    if num_positives == 0:
        return float("nan")
    precision = cuts.num_found / cuts.num_chosen
    return float((np.diff(cuts.num_found, prepend=0) * precision).sum() / num_positives)


class AtThreshold(NamedTuple):
    """A metric's best value, and the least score that counts as positive there."""

    value: float
    threshold: float


def best_accuracy(
    scores: Num[np.ndarray, "pairs"], labels: Shaped[np.ndarray, "pairs"]
) -> AtThreshold:
    """Accuracy at the threshold that is best for it, the highest such one.

    The threshold lies midway between two scores, or just above the highest: all are negative then.
    As BinaryClassificationEvaluator of sentence-transformers.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    cuts = _cuts(scores, labels)
    num_negatives = len(labels) - cuts.num_found[-1]
    num_right = num_negatives + 2 * cuts.num_found - cuts.num_chosen
    best = int(num_right.argmax())
    if num_right[best] <= num_negatives:
        return AtThreshold(float(num_negatives / len(labels)), cuts.above_all)
    return AtThreshold(float(num_right[best] / len(labels)), float(cuts.thresholds[best]))


def best_f1(scores: Num[np.ndarray, "pairs"], labels: Shaped[np.ndarray, "pairs"]) -> AtThreshold:
    """F1 at the threshold that is best for it, the highest such one; 0 without positives.

    As BinaryClassificationEvaluator of sentence-transformers.

    Args:
        scores: higher is more similar.
        labels: true or 1 where positive.
    """
    cuts = _cuts(scores, labels)
    f1 = 2 * cuts.num_found / (cuts.num_chosen + cuts.num_found[-1])
    best = int(f1.argmax())
    return AtThreshold(
        float(f1[best]), float(cuts.thresholds[best]) if f1[best] else cuts.above_all
    )


class _Cuts(NamedTuple):
    """Every way to call the highest scores positive that does not part equal ones, least first."""

    thresholds: Float[np.ndarray, "cuts"]
    num_chosen: Int[np.ndarray, "cuts"]
    num_found: Int[np.ndarray, "cuts"]
    """Positives among the chosen."""
    above_all: float


def _cuts(scores: Num[np.ndarray, "pairs"], labels: Shaped[np.ndarray, "pairs"]) -> _Cuts:
    order = np.argsort(scores)[::-1]
    values = scores[order]
    ends = np.flatnonzero(np.append(values[:-1] != values[1:], True))
    highest_of_rest = np.append(values[ends[:-1] + 1], values[-1])
    midway = (values[ends] + highest_of_rest) / 2
    return _Cuts(
        # In the scores' own precision, so that `scores >= threshold` says the same; there the
        # middle of neighbouring floats may be the lower one, which is not chosen.
        thresholds=np.where(midway == highest_of_rest, values[ends], midway),
        num_chosen=ends + 1,
        num_found=labels.astype(bool)[order].cumsum()[ends],
        above_all=float(np.nextafter(values[0], np.inf)),
    )
