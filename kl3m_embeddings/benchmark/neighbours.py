"""What a model finds for a few queries of a retrieval task: to read, beside the score."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mteb.abstasks import AbsTask, AbsTaskRetrieval

from kl3m_embeddings.benchmark.items import task_data
from kl3m_embeddings.files.json_lines import replace_lines
from kl3m_embeddings.local_tasks.folder import joined

NEIGHBOURS = "neighbours.jsonl"
NUM_QUERIES = 5
NUM_FOUND = 3
MAX_CHARS = 400

Row = dict[str, Any]


def neighbours_of(
    task: AbsTask,
    predicted: Any,  # noqa: ANN401
    split: str,
    subset: str,
) -> list[Row]:
    """The best documents of a few queries, the same ones for every model; none for other tasks.

    Args:
        task: one of mteb's, with its data.
        predicted: of such a task, the score of each document found, by query.
        split: of the task.
        subset: of the task.
    """
    if not isinstance(task, AbsTaskRetrieval):
        return []
    data: Any = task_data(task, split, subset)
    judged = data["relevant_docs"]
    asked = sorted(judged.keys() & predicted.keys())
    queries = asked[:: max(1, len(asked) // NUM_QUERIES)][:NUM_QUERIES]
    best = {
        query: sorted(predicted[query].items(), key=lambda one: -one[1])[:NUM_FOUND]
        for query in queries
    }
    wanted = {document for found in best.values() for document, _ in found}
    texts = texts_of(data["corpus"], wanted)
    asked_as = texts_of(data["queries"], set(queries))
    return [
        {
            "query": asked_as[query],
            "neighbours": [
                {
                    "text": texts[document],
                    "score": score if math.isfinite(score) else None,
                    "relevant": judged[query].get(document, 0) > 0,
                }
                for document, score in best[query]
            ],
        }
        for query in queries
    ]


def texts_of(dataset: Any, ids: set[str]) -> dict[str, str]:  # noqa: ANN401 - datasets.Dataset
    """The texts of these ids, long ones cut."""
    rows = [row for row, name in enumerate(dataset["id"]) if name in ids]
    found = dataset.select(rows)
    titles = found["title"] if "title" in found.column_names else [""] * len(rows)
    return {
        name: joined(title or "", text)[:MAX_CHARS]
        for name, title, text in zip(found["id"], titles, found["text"], strict=True)
    }


def write_neighbours(folder: Path, rows: Sequence[Row]) -> None:
    """Add the rows to the folder's file; those of the same model, step and task are replaced."""
    replace_lines(folder / NEIGHBOURS, rows, ("model", "step", "task"))
