"""Retrieval on held-out pairs: where each query's positives rank among all documents of the set.

1. A query is a distinct query text, and relevant are the positives of all rows that have it.
2. The documents are all positives and negatives of the set, each text once.
3. A relevant document's rank is the number of documents that score higher: no ranking is made,
   scores are counted, a block of queries at a time.
4. Of equally scored documents, those come first that stand before it in a pseudo-random order,
   the same for every query: a model that embeds all texts alike scores as chance does.
5. A document that is the query's own text is not ranked for it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from kl3m_embeddings.data.counter_random import derive_key, permute
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.metrics.ranking import grades_at_ranks, mrr_at_k, ndcg_at_k, recall_at_k
from kl3m_embeddings.metrics.vectors import SIMILARITIES

BLOCK_SCORES = 16 * 2**20  # 64 MiB of scores at a time
DEPTH = 100
METRICS = {
    "ndcg@10": (ndcg_at_k, 10),
    "mrr@10": (mrr_at_k, 10),
    "recall@1": (recall_at_k, 1),
    "recall@10": (recall_at_k, 10),
    "recall@100": (recall_at_k, DEPTH),
}


@dataclass(frozen=True, kw_only=True)
class RetrievalJudgements:
    """Which documents are right for which query.

    Attributes:
        query_ids: text ids, ascending.
        document_ids: text ids, in the order in which ties are broken.
        relevant: of all queries end to end, as places in `document_ids`.
        relevant_starts: where each query's start, and the end of the last one's.
        own: the place of the document that is the query itself; -1 where there is none.
        num_left_out: documents of the set that are not among these.
    """

    query_ids: Int64[np.ndarray, " queries"]
    document_ids: Int64[np.ndarray, " documents"]
    relevant: Int64[np.ndarray, " judgements"]
    relevant_starts: Int64[np.ndarray, " queries_and_1"]
    own: Int64[np.ndarray, " queries"]
    num_left_out: int

    @classmethod
    def build(
        cls,
        pairs: PairSet,
        rows: Int64[np.ndarray, " rows"],
        *,
        max_documents: int | None,
        seed: int,
    ) -> "RetrievalJudgements":
        """Take the queries of some rows.

        Args:
            pairs: where all documents come from.
            rows: a query among these is asked with the positives of every row that has it.
            max_documents: if there are more, the relevant ones and some of the others.
            seed: of the choice among the others, and of the order of ties.
        """
        query_ids = np.unique(pairs.queries[rows])
        queries, relevant_ids = _judged(pairs, query_ids)
        ids = np.unique(np.concatenate([pairs.positives, pairs.negatives]))
        num_all = len(ids)
        if max_documents is not None and num_all > max_documents:
            ids = _with_relevant(ids, np.unique(relevant_ids), max_documents, seed)
        order = permute(np.arange(len(ids)), len(ids), derive_key(seed, "ties"))
        positions = np.empty(len(ids), dtype=np.int64)
        positions[order] = np.arange(len(ids))
        return cls(
            query_ids=query_ids,
            document_ids=ids[order],
            relevant=positions[np.searchsorted(ids, relevant_ids)],
            relevant_starts=np.searchsorted(queries, np.arange(len(query_ids) + 1)),
            own=_own_places(pairs.originals[query_ids], pairs.originals[ids], positions),
            num_left_out=num_all - len(ids),
        )

    def problem(self) -> str | None:
        """Why no model could be told from another by these queries; None where one can."""
        num_ranked = len(self.document_ids) - (self.own >= 0)
        num_relevant = np.diff(self.relevant_starts)
        if not num_relevant.any():
            return "every positive is its own query: there is nothing to be found"
        if (num_relevant >= num_ranked)[num_relevant > 0].all():
            return (
                "every document is right for every query: add rows with other positives, "
                "or negatives"
            )
        return None

    def counts(self) -> dict[str, int]:
        """How many queries and documents there are."""
        return {"num_queries": len(self.query_ids), "num_documents": len(self.document_ids)}

    def metrics(
        self,
        queries: Float32[np.ndarray, "queries size"],
        documents: Float32[np.ndarray, "documents size"],
        similarity: str,
    ) -> dict[str, float]:
        """Means over the queries of every metric, by a name of SIMILARITIES."""
        score = SIMILARITIES[similarity]
        return self.metrics_of_scores(lambda block: score(queries[block], documents))

    def metrics_of_scores(
        self, scores: Callable[[slice], Float32[np.ndarray, "block documents"]]
    ) -> dict[str, float]:
        """As `metrics`, of what is not a product of vectors.

        Args:
            scores: of a slice of the queries with all documents; they may be written to.
        """
        num_queries, num_relevant = len(self.query_ids), np.diff(self.relevant_starts)
        block_size = max(1, BLOCK_SCORES // max(len(self.document_ids), 16 * DEPTH))
        sums = dict.fromkeys(METRICS, 0.0)
        for first in range(0, num_queries, block_size):
            block = slice(first, min(first + block_size, num_queries))
            grades = grades_at_ranks(self._ranks(scores(block), first), num_relevant[block], DEPTH)
            for name, (metric, k) in METRICS.items():
                sums[name] += float(metric(grades, k).sum())
        return {name: total / num_queries for name, total in sums.items()}

    def _ranks(
        self, scores: Float32[np.ndarray, "block documents"], first: int
    ) -> Int64[np.ndarray, " judgements"]:
        """Ranks, from 0, of the documents that are relevant to the queries from `first` on."""
        ranks = []
        for query, row in enumerate(scores, start=first):
            if self.own[query] >= 0:
                row[self.own[query]] = -np.inf
            for position in self.relevant[slice(*self.relevant_starts[query : query + 2])]:
                score = row[position]
                ranks.append(np.count_nonzero(row > score) + _num_equal(row[:position], score))
        return np.array(ranks, dtype=np.int64)


def _num_equal(scores: Float32[np.ndarray, " _"], score: np.float32) -> int:
    return int(np.count_nonzero(scores == score))


def _judged(
    pairs: PairSet, query_ids: Int64[np.ndarray, " queries"]
) -> tuple[Int64[np.ndarray, " judgements"], Int64[np.ndarray, " judgements"]]:
    """Place of the query and id of the text of each positive, once, queries ascending."""
    ids = np.repeat(pairs.queries, np.diff(pairs.positive_starts))
    is_itself = pairs.originals[ids] == pairs.originals[pairs.positives]
    is_asked = np.isin(ids, query_ids) & ~is_itself
    queries = np.searchsorted(query_ids, ids[is_asked])
    keys = np.unique(queries * pairs.num_texts + pairs.positives[is_asked])
    return keys // pairs.num_texts, keys % pairs.num_texts


def _own_places(
    queries: Int64[np.ndarray, " queries"],
    documents: Int64[np.ndarray, " documents"],
    positions: Int64[np.ndarray, " documents"],
) -> Int64[np.ndarray, " queries"]:
    """The place of the document that is the query itself, whatever their prefixes; else -1."""
    order = np.argsort(documents, kind="stable")
    found = np.searchsorted(documents[order], queries)
    nearest = order[np.minimum(found, len(order) - 1)]
    own: Int64[np.ndarray, " queries"] = np.where(
        documents[nearest] == queries, positions[nearest], -1
    )
    return own


def _with_relevant(
    ids: Int64[np.ndarray, " documents"],
    relevant: Int64[np.ndarray, " relevant"],
    max_documents: int,
    seed: int,
) -> Int64[np.ndarray, " chosen"]:
    """All relevant documents and, as far as there is room, others by chance; ascending."""
    others = np.setdiff1d(ids, relevant, assume_unique=True)
    chosen = sample(len(others), max_documents - len(relevant), derive_key(seed, "documents"))
    return np.sort(np.concatenate([relevant, others[chosen]]))


def sample(size: int, num_wanted: int, key: int) -> Int64[np.ndarray, " chosen"]:
    """At most `num_wanted` of the numbers below `size`, ascending."""
    chosen = np.arange(max(0, min(size, num_wanted)))
    return np.sort(permute(chosen, size, key)) if size else chosen
