"""Held-out pairs with labels: does the similarity follow them?

Labels of 0 and 1 make it a classification, measured at the thresholds that suit it best and over
all of them; other labels are grades, and what counts is that similarities rise with them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.metrics.labelled import (
    best_accuracy,
    best_f1,
    binary_average_precision,
    pearson,
    roc_auc,
    spearman,
)
from kl3m_embeddings.metrics.vectors import ALIKENESS

BLOCK_PAIRS = 1 << 16
SIMILARITY = ("spearman", "pearson")
CLASSIFICATION = ("ap", "auc", "accuracy", "f1")
THRESHOLDS = ("accuracy_threshold", "f1_threshold")


@dataclass(frozen=True, kw_only=True)
class LabelledJudgements:
    """Pairs of texts and a label of each.

    Attributes:
        query_ids: text ids, ascending.
        document_ids: text ids, ascending.
        queries: of each pair, as place in `query_ids`.
        documents: of each pair, as place in `document_ids`.
        binary: whether every label of the set is 0 or 1.
    """

    query_ids: Int64[np.ndarray, " queries"]
    document_ids: Int64[np.ndarray, " documents"]
    queries: Int64[np.ndarray, " pairs"]
    documents: Int64[np.ndarray, " pairs"]
    labels: Float32[np.ndarray, " pairs"]
    binary: bool
    are_equal: bool
    """Whether both texts of every pair are the same."""

    @classmethod
    def build(cls, pairs: PairSet, rows: Int64[np.ndarray, " rows"]) -> "LabelledJudgements":
        """Take some rows of a set with labels."""
        assert pairs.labels is not None
        query_ids, queries = np.unique(pairs.queries[rows], return_inverse=True)
        positives = pairs.positives[pairs.positive_starts[rows]]
        document_ids, documents = np.unique(positives, return_inverse=True)
        return cls(
            query_ids=query_ids,
            document_ids=document_ids,
            queries=queries,
            documents=documents,
            labels=pairs.labels[rows],
            binary=bool(np.isin(pairs.labels, (0, 1)).all()),
            are_equal=bool(
                (pairs.originals[pairs.queries[rows]] == pairs.originals[positives]).all()
            ),
        )

    def problem(self) -> str | None:
        """Why no model could be told from another by these pairs; None where one can."""
        if (label := self.labels[0]) == self.labels.max() == self.labels.min():
            return f"every label is {label:g}: add pairs with others, or leave the label column out"
        if len(np.unique(self.queries * len(self.document_ids) + self.documents)) == 1:
            return "every pair is of the same two texts: add others"
        if self.are_equal:
            return "both texts of every pair are the same: add pairs of different texts"
        return None

    def counts(self) -> dict[str, int]:
        """How many pairs there are."""
        return {"num_pairs": len(self.labels)}

    def metrics(
        self,
        queries: Float32[np.ndarray, "queries size"],
        documents: Float32[np.ndarray, "documents size"],
        similarity: str,
    ) -> dict[str, float]:
        """Every metric of the similarities, by a name of ALIKENESS."""
        scores = self._similarities(queries, documents, similarity)
        if not self.binary:
            return {
                "spearman": spearman(scores, self.labels),
                "pearson": pearson(scores, self.labels),
            }
        accuracy, f1 = best_accuracy(scores, self.labels), best_f1(scores, self.labels)
        return {
            "ap": binary_average_precision(scores, self.labels),
            "auc": roc_auc(scores, self.labels),
            "accuracy": accuracy.value,
            "f1": f1.value,
            "accuracy_threshold": accuracy.threshold,
            "f1_threshold": f1.threshold,
        }

    def _similarities(
        self,
        queries: Float32[np.ndarray, "queries size"],
        documents: Float32[np.ndarray, "documents size"],
        similarity: str,
    ) -> Float32[np.ndarray, " pairs"]:
        """Of each pair, a block of pairs at a time."""
        alike = np.empty(len(self.labels), dtype=np.float32)
        for first in range(0, len(alike), BLOCK_PAIRS):
            block = slice(first, first + BLOCK_PAIRS)
            sides = queries[self.queries[block]], documents[self.documents[block]]
            alike[block] = ALIKENESS[similarity](*sides)
        return alike
