"""What a score is the mean of: each query's, each text's, each pair's share in it.

mteb writes what a model predicted; from that and the task's own answers the score is taken apart.
Where the parts do not add up to mteb's score, there are none: an interval around another number
would mislead.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.records import Record, read_record
from kl3m_embeddings.files.whole import write_whole
from kl3m_embeddings.metrics.labelled import binary_average_precision, pearson, spearman
from kl3m_embeddings.metrics.ranking import grade_ranking, ranking_metric

# mteb rounds, and breaks ties between documents in an order of its own.
TOLERANCE = 2e-3
SCORED_AGAIN = "the task is scored again"


class Items(NamedTuple):
    """The parts of a score.

    Attributes:
        statistic: a name of STATISTICS: how values (and answers) make the score.
        values: one an item: its score, or what was predicted.
        answers: what is right, for statistics that compare; else empty.
    """

    statistic: str
    values: Float[np.ndarray, " items"]
    answers: Float[np.ndarray, " items"]

    @property
    def score(self) -> float:
        """What the parts add up to."""
        return STATISTICS[self.statistic](self.values, self.answers)

    def save(self, path: Path) -> None:
        """Write them."""
        fields = {"statistic": self.statistic, "values": self.values.tolist()}
        write_whole(path, json.dumps({**fields, "answers": self.answers.tolist()}))

    @classmethod
    def load(cls, path: Path) -> "Items | None":
        """Read them; None if they are not there.

        Raises:
            DamagedError: the file is not what was written.
        """
        if not path.exists():
            return None
        saved = read_record(path, _Saved, SCORED_AGAIN)
        if saved.statistic not in STATISTICS:
            raise DamagedError(f"{path}: statistic: {saved.statistic!r} is none; {SCORED_AGAIN}")
        return cls(saved.statistic, np.array(saved.values), np.array(saved.answers))


class _Saved(Record):
    """How they are written."""

    statistic: str
    values: list[float]
    answers: list[float]


def _mean(values: Float[np.ndarray, " items"], _: Float[np.ndarray, " _"]) -> float:
    return float(values.mean())


STATISTICS = {
    "mean": _mean,
    "spearman": spearman,
    "pearson": pearson,
    "ap": binary_average_precision,
}


def items_of(task: Any, predicted: Any, split: str, subset: str, score: float) -> Items | None:  # noqa: ANN401
    """The parts of a task's main score; None where it has none that add up to it.

    Args:
        task: one of mteb's, with its data.
        predicted: what mteb has kept of the model's predictions for this split and subset.
        split: of the task.
        subset: of the task, its language, say.
        score: mteb's.
    """
    metric = task.metadata.main_score
    kind = task.metadata.type
    items: Items | None = None
    if kind in ("Retrieval", "Reranking", "InstructionReranking"):
        judgements = task_data(task, split, subset)["relevant_docs"]
        items = ranking_items(judgements, as_scored(task, predicted), metric)
    elif kind == "STS" and metric.startswith("cosine_"):
        statistic = metric.removeprefix("cosine_")
        answers = np.array(task_data(task, split, subset)["score"], dtype=float)
        items = Items(statistic, np.array(predicted["cosine_scores"]), answers)
    elif kind == "PairClassification":
        labels = list(task_data(task, split, subset)[task.label_column_name])
        # in mteb's first form all pairs are one row
        labels = labels[0] if labels and isinstance(labels[0], list) else labels
        items = pair_items(labels, predicted, metric)
    elif kind == "Classification" and metric == "accuracy":
        labels = list(task_data(task, split, subset)[task.label_column_name])
        if all(len(one) == len(labels) for one in predicted):  # folds have fewer
            right = np.stack([np.array(one) == np.array(labels) for one in predicted])
            items = Items("mean", right.mean(axis=0), np.empty(0))
    if items is None or not all(np.isfinite(part).all() for part in items[1:]):
        return None
    return items if abs(items.score - score) <= TOLERANCE else None


def task_data(task: Any, split: str, subset: str) -> Any:  # noqa: ANN401
    """A task's own data, of one split and subset."""
    data = task.dataset
    return data[subset][split] if subset in data else data[split]


def as_scored(task: Any, scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:  # noqa: ANN401
    """What mteb counts of a ranking: some tasks leave out a query's own text, or the first."""
    kept = {query: dict(found) for query, found in scores.items()}
    if getattr(task, "ignore_identical_ids", False):
        for query, found in kept.items():
            found.pop(query, None)
    if getattr(task, "skip_first_result", False):
        kept = {
            query: dict(sorted(found.items(), key=lambda one: one[1], reverse=True)[1:])
            for query, found in kept.items()
        }
    return kept


def ranking_items(
    judgements: Mapping[str, Mapping[str, int]],
    scores: Mapping[str, Mapping[str, float]],
    metric: str,
) -> Items | None:
    """The score of each query that was judged and asked, by id; of a tie the higher id is first."""
    queries = sorted(judgements.keys() & scores.keys())
    numbers = {
        document: n for n, document in enumerate(sorted({*_names(judgements), *_names(scores)}))
    }
    depth = max(1, max((len(scores[query]) for query in queries), default=1))
    ranking = np.full((len(queries), depth), -1)
    for row, query in enumerate(queries):
        ranked = sorted(scores[query].items(), key=lambda one: (one[1], one[0]), reverse=True)
        ranking[row, : len(ranked)] = [numbers[document] for document, _ in ranked]
    triples = [
        (row, numbers[document], grade)
        for row, query in enumerate(queries)
        for document, grade in judgements[query].items()
    ]
    if not triples:
        return None
    grades = grade_ranking(ranking, *(np.array(column) for column in zip(*triples, strict=True)))
    values = ranking_metric(metric, grades)
    return None if values is None else Items("mean", values, np.empty(0))


def _names(of_queries: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {document for documents in of_queries.values() for document in documents}


def pair_items(labels: list[int], predicted: Mapping[str, Any], metric: str) -> Items | None:
    """The pairs' similarities by the measure that the score is of; `max` is the best of them."""
    kind, _, name = metric.rpartition("_")
    if name != "ap":
        return None
    answers = np.array(labels, dtype=float)
    sides = {
        "similarity": ("similarity_scores", 1), "cosine": ("cosine_scores", 1),
        "dot": ("dot_scores", 1), "manhattan": ("manhattan_distances", -1),
        "euclidean": ("euclidean_distances", -1),
    }  # fmt: skip
    chosen = sides if kind == "max" else {kind: sides[kind]}
    candidates = [
        Items("ap", sign * np.array(predicted[key], dtype=float), answers)
        for key, sign in chosen.values()
        if predicted.get(key) is not None
    ]
    return max(candidates, key=lambda items: items.score, default=None)
