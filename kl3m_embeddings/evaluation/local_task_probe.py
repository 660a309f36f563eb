"""Small local tasks scored while a model trains, as mteb scores them afterwards.

The texts are tokenised once. At each evaluation they are embedded by the engine, and numpy makes
the score of them: no library that seeds or draws is asked, so that the run's random numbers stay
as they are.

The result is a flat part of a row of eval.jsonl: `tasks/statutes/ndcg_at_10`, and
`tasks/statutes/ndcg_at_10/64` at size 64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.local_tasks.folder import LocalTask, PairTexts, RankingTexts, joined
from kl3m_embeddings.metrics.labelled import binary_average_precision, pearson, spearman
from kl3m_embeddings.metrics.ranking import grade_ranking, ranking_metric
from kl3m_embeddings.metrics.vectors import (
    ALIKENESS,
    SIMILARITIES,
    Similarities,
    Vectors,
    can_be_compared,
)

PROBED = ("Retrieval", "Reranking", "STS", "PairClassification")
# As deep as mteb ranks.
DEPTH = 1000

# token ids of texts, without special ones, to embeddings; None where a stop was asked for meanwhile
EmbedIds = Callable[[Sequence[Sequence[int]]], Vectors | None]


@dataclass(frozen=True, kw_only=True)
class LocalTaskProbe:
    """A task, tokenised; see `build`."""

    name: str
    metric: str
    ids: Sequence[Sequence[int]]
    """Of all texts: first the queries, or the first text of each pair."""
    num_queries: int
    score: Callable[[Vectors, Vectors], float]
    """Of the vectors of both halves."""
    similarity: str
    """How the model compares vectors, a name of SIMILARITIES."""
    truncate_dim: int | None = None
    """The full size, if the model keeps so many dimensions only."""

    @classmethod
    def build(
        cls,
        task: LocalTask,
        tokenizer: Tokenizer,
        prefixes: tuple[str, str],
        plain_prefix: str,
        *,
        similarity: str = "cosine",
        truncate_dim: int | None = None,
    ) -> "LocalTaskProbe":
        """Tokenise a task.

        Args:
            task: of a type in PROBED.
            tokenizer: of the run.
            prefixes: put before queries and documents, if the task has no prompts of its own.
            plain_prefix: put before texts that are neither.
            similarity: by which the model compares vectors, a name of SIMILARITIES.
            truncate_dim: how many dimensions the model keeps; None: all.

        Raises:
            ConfigError: the type, or the main score, is none that can be probed.
        """
        content, settings = task.content, task.settings
        prompts = settings.prompts()
        if prompts is not None:
            prefixes = prompts.get("query", ""), prompts.get("document", "")
            plain_prefix = prefixes[1]
        score: Callable[[Vectors, Vectors], float] | None = None
        queries: Sequence[str] = ()
        documents: Sequence[str] = ()
        if isinstance(content, RankingTexts):
            queries = [content.queries[name] for name in content.judgements]
            documents = [joined(*document) for document in content.documents.values()]
            score = ranking_score(content, settings.score, SIMILARITIES[similarity])
        elif isinstance(content, PairTexts):
            queries, documents, prefixes = content.first, content.second, (plain_prefix,) * 2
            values = np.array(content.values, dtype=float)
            score = pair_score(values, settings.score, similarity)
        if score is None:
            raise ConfigError(
                f"eval.tasks: {task.folder}: {settings.type} by {settings.score} is not scored "
                f"while training: {', '.join(PROBED)} are; kl3m mteb scores it afterwards"
            )
        texts = [prefixes[0] + text for text in queries]
        texts += [prefixes[1] + text for text in documents]
        return cls(
            name=settings.name,
            metric=settings.score,
            ids=[tokenizer.encode(text) for text in texts],
            num_queries=len(queries),
            score=score,
            similarity=similarity,
            truncate_dim=truncate_dim,
        )

    @property
    def field(self) -> str:
        """The key of the score."""
        return f"tasks/{self.name}/{self.metric}"

    def fields(self, dims: Sequence[int] = ()) -> list[str]:
        """The keys of the scores, at full size and at these."""
        smaller = [dim for dim in dims if self.truncate_dim is None or dim < self.truncate_dim]
        return [self.field, *(f"{self.field}/{dim}" for dim in smaller)]

    def evaluate(self, embed: EmbedIds, dims: Sequence[int] = ()) -> dict[str, Any] | None:
        """Embed and score, at full size and at smaller ones.

        Returns:
            None where a score has no meaning, or an embedding is not finite. None altogether if
            `embed` returned it.
        """
        vectors = embed(self.ids)
        if vectors is None:
            return None
        size = min(self.truncate_dim or vectors.shape[1], vectors.shape[1])
        return {
            self.field if dim == size else f"{self.field}/{dim}": self._score_at(vectors, dim)
            for dim in (size, *(dim for dim in dims if dim < size))
        }

    def _score_at(self, vectors: Vectors, dim: int) -> float | None:
        cut = vectors[:, :dim]
        if not can_be_compared(cut, self.similarity):
            return None
        score = self.score(cut[: self.num_queries], cut[self.num_queries :])
        return score if math.isfinite(score) else None


def ranking_score(
    content: RankingTexts, metric: str, similarity: Callable[[Vectors, Vectors], Similarities]
) -> Callable[[Vectors, Vectors], float]:
    """A function of queries' and documents' vectors, in the content's order."""
    # Equal scores: the higher id first, as trec_eval has it.
    names = sorted(content.documents, reverse=True)
    rank_of = {name: rank for rank, name in enumerate(names)}
    place_of = {name: place for place, name in enumerate(content.documents)}
    order = np.array([place_of[name] for name in names])
    judged = [
        (query, rank_of[document], grade)
        for query, of_query in enumerate(content.judgements.values())
        for document, grade in of_query.items()
    ]
    queries, documents, grades = (np.array(column) for column in zip(*judged, strict=True))
    allowed = None
    if content.candidates is not None:
        allowed = np.zeros((len(content.judgements), len(names)), dtype=bool)
        for query, name in enumerate(content.judgements):
            allowed[query, [rank_of[one] for one in content.candidates[name]]] = True

    def score(query_vectors: Vectors, document_vectors: Vectors) -> float:
        ranking = best_first(similarity(query_vectors, document_vectors[order]), allowed)
        values = ranking_metric(metric, grade_ranking(ranking, queries, documents, grades))
        assert values is not None, metric
        return float(values.mean())

    return score


def best_first(
    similarities: Similarities,
    allowed: Bool[np.ndarray, "queries documents"] | None,
) -> Int64[np.ndarray, "queries depth"]:
    """Each query's documents, the best DEPTH of those allowed; -1 where there are no more."""
    if allowed is not None:
        similarities = np.where(allowed, similarities, -np.inf)
    depth = min(DEPTH, similarities.shape[1])
    found = np.argpartition(-similarities, depth - 1, axis=1)[:, :depth]
    found.sort(axis=1)  # and then stably by similarity: ties stay in the documents' order
    values = np.take_along_axis(similarities, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ranking = np.take_along_axis(found, order, axis=1)
    is_none = np.isneginf(np.take_along_axis(values, order, axis=1))
    return np.where(is_none, -1, ranking)


def pair_score(
    values: Float[np.ndarray, " pairs"], metric: str, similarity: str
) -> Callable[[Vectors, Vectors], float] | None:
    """A function of both texts' vectors; None where the metric is not one of these.

    mteb's `spearman` and `similarity_ap` are by the model's own similarity.
    """
    kind, _, name = metric.rpartition("_")
    statistics = {"spearman": spearman, "pearson": pearson, "ap": binary_average_precision}
    own = similarity if kind in ("", "similarity") else kind
    kinds = list(ALIKENESS) if kind == "max" else [own]
    if name not in statistics or not set(kinds) <= set(ALIKENESS):
        return None
    statistic = statistics[name]

    def score(first: Vectors, second: Vectors) -> float:
        return max(statistic(ALIKENESS[one](first, second), values) for one in kinds)

    return score
