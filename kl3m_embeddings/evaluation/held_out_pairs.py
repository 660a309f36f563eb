"""Held-out pairs: how good the embeddings are at what they are trained for.

1. Each distinct text of a set is embedded once as a query, once as a document.
2. Vectors are compared by the run's similarity. Sets with labels are measured by how alike their
   pairs are (see `labelled_pairs`), sets without by how well queries find their positives (see
   `retrieval`).
3. The same again at smaller sizes: the first numbers of each vector, as they are; their cosine is
   that of their directions (Matryoshka embeddings, https://arxiv.org/abs/2205.13147).

The result is a flat part of a row of eval.jsonl: `nq/ndcg@10`, and `nq/ndcg@10/64` at size 64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64

from kl3m_embeddings.data.counter_random import derive_key
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.evaluation import labelled_pairs, retrieval
from kl3m_embeddings.evaluation.labelled_pairs import LabelledJudgements
from kl3m_embeddings.evaluation.retrieval import RetrievalJudgements, sample
from kl3m_embeddings.metrics.vectors import can_be_compared, unit_vectors

Kind = Literal["similarity", "classification", "retrieval"]
Vectors = Float32[np.ndarray, "_ size"]
# text ids to embeddings of any length; None where a stop was asked for meanwhile
Embed = Callable[[Int64[np.ndarray, " texts"]], Vectors | None]

MAIN_METRICS: dict[Kind, str] = {
    "similarity": "spearman",
    "classification": "ap",
    "retrieval": "ndcg@10",
}
METRICS: dict[Kind, tuple[str, ...]] = {
    "similarity": labelled_pairs.SIMILARITY,
    "classification": labelled_pairs.CLASSIFICATION,
    "retrieval": tuple(retrieval.METRICS),
}


@dataclass(frozen=True, kw_only=True)
class PairEvaluation:
    """Held-out pairs of one set; see `build`."""

    name: str
    pairs: PairSet
    judgements: LabelledJudgements | RetrievalJudgements
    similarity: str
    """How vectors are compared, a name of SIMILARITIES."""
    truncate_dim: int | None
    """The full size, if the model keeps so many dimensions only."""

    @classmethod
    def build(
        cls,
        name: str,
        pairs: PairSet,
        *,
        similarity: str = "cosine",
        truncate_dim: int | None = None,
        max_rows: int | None = None,
        max_documents: int | None = None,
        seed: int = 0,
    ) -> "PairEvaluation":
        """Choose what is evaluated: the same at every evaluation of a run.

        Args:
            name: of the set, as its results are called.
            pairs: the held-out set.
            similarity: by which the model compares vectors.
            truncate_dim: how many dimensions the model keeps; None: all.
            max_rows: use so many rows, chosen by `seed`; None: all. The documents that a query is
                asked among are not limited by it.
            max_documents: of sets without labels: if there are more, the relevant ones and, as far
                as there is room, some of the others, see `left_out`; None: all.
            seed: of every choice.
        """
        limit = pairs.num_rows if max_rows is None else max_rows
        rows = sample(pairs.num_rows, limit, derive_key(seed, "rows"))
        judgements = (
            LabelledJudgements.build(pairs, rows)
            if pairs.has_labels
            else RetrievalJudgements.build(pairs, rows, max_documents=max_documents, seed=seed)
        )
        return cls(
            name=name,
            pairs=pairs,
            judgements=judgements,
            similarity=similarity,
            truncate_dim=truncate_dim,
        )

    def problem(self) -> str | None:
        """Why no model could be told from another by this set, and a way out; None if one can.

        Its score would be the same for every model, a perfect one as a rule, and the best
        checkpoint be chosen by it.
        """
        return self.judgements.problem()

    def left_out(self) -> str | None:
        """A line on the documents that no query is asked among; None where there are none."""
        if not isinstance(self.judgements, RetrievalJudgements) or not self.judgements.num_left_out:
            return None
        num_documents, num_left_out = (
            len(self.judgements.document_ids),
            self.judgements.num_left_out,
        )
        return (
            f"{self.name}: queries are asked among {num_documents:,} of "
            f"{num_documents + num_left_out:,} documents: its metrics are higher than among all "
            f"(eval.pairs.{self.name}.max_documents)"
        )

    @property
    def kind(self) -> Kind:
        """What is asked of the embeddings: by the labels, or that there are none."""
        if isinstance(self.judgements, RetrievalJudgements):
            return "retrieval"
        return "classification" if self.judgements.binary else "similarity"

    @property
    def main_metric(self) -> str:
        """The key of the number to judge by."""
        return f"{self.name}/{MAIN_METRICS[self.kind]}"

    def fields(self, dims: Sequence[int] = ()) -> list[str]:
        """The keys of the metrics, at full size and at these."""
        smaller = [dim for dim in dims if self.truncate_dim is None or dim < self.truncate_dim]
        return [
            f"{self.name}/{metric}{suffix}"
            for suffix in ("", *(f"/{dim}" for dim in smaller))
            for metric in METRICS[self.kind]
        ]

    def evaluate(
        self, embed_queries: Embed, embed_documents: Embed, dims: Sequence[int] = ()
    ) -> dict[str, Any] | None:
        """Embed and measure.

        Args:
            embed_queries: takes text ids of the set.
            embed_documents: the same; if both are one function, no text is embedded twice.
            dims: sizes smaller than the embeddings' own; others are left out.

        Returns:
            Keys `name/metric`, `name/metric/dim` and counts; None where a metric has no meaning or
            an embedding is not finite. None altogether if a function returned it.
        """
        embedded = self._embed(embed_queries, embed_documents)
        if embedded is None:
            return None
        size = min(self.truncate_dim or embedded[0].shape[1], embedded[0].shape[1])
        row: dict[str, Any] = {}
        for dim in (size, *(dim for dim in dims if dim < size)):
            suffix = "" if dim == size else f"/{dim}"
            values = self._metrics(*embedded, dim)
            names = METRICS[self.kind]
            if self.kind == "classification" and dim == size:
                names += labelled_pairs.THRESHOLDS
            row |= {f"{self.name}/{metric}{suffix}": _known(values, metric) for metric in names}
        return row | {f"{self.name}/{key}": n for key, n in self.judgements.counts().items()}

    def _embed(
        self, embed_queries: Embed, embed_documents: Embed
    ) -> tuple[Vectors, Vectors] | None:
        """The embeddings of all queries and of all documents."""
        query_ids, document_ids = self.judgements.query_ids, self.judgements.document_ids
        if embed_queries == embed_documents:
            ids = np.union1d(query_ids, document_ids)
            vectors = embed_queries(ids)
            if vectors is None:
                return None
            positions = (np.searchsorted(ids, query_ids), np.searchsorted(ids, document_ids))
            return vectors[positions[0]], vectors[positions[1]]
        queries = embed_queries(query_ids)
        documents = None if queries is None else embed_documents(document_ids)
        return None if queries is None or documents is None else (queries, documents)

    def _metrics(self, queries: Vectors, documents: Vectors, dim: int) -> dict[str, float]:
        """Every metric at one size; none where an embedding is not finite."""
        queries, documents, similarity = queries[:, :dim], documents[:, :dim], self.similarity
        if not all(can_be_compared(side, similarity) for side in (queries, documents)):
            return {}
        if similarity == "cosine":  # lengths are taken once, not in every block
            queries, documents, similarity = unit_vectors(queries), unit_vectors(documents), "dot"
        return self.judgements.metrics(queries, documents, similarity)


def _known(values: dict[str, float], metric: str) -> float | None:
    value = values.get(metric, math.nan)
    return value if math.isfinite(value) else None
