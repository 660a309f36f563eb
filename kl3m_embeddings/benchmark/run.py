"""Scores models on tasks and keeps every score.

1. Models one after another; of each, tasks one after another; of each, the variants.
2. A score that is there is not made again (`evaluate_task.py`).
3. Rows for reports (`scores.py`) are written after every task: what was scored before a failure, or
   Ctrl-C, stays.
4. A task that fails becomes a row with its error, and the next one begins.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.errors import HfHubHTTPError
from jaxtyping import Float
from mteb.abstasks import AbsTask

from kl3m_embeddings.benchmark.aggregates import tasks_with_data
from kl3m_embeddings.benchmark.bootstrap import comparable, interval, resampled
from kl3m_embeddings.benchmark.candidates import Candidate
from kl3m_embeddings.benchmark.evaluate_task import evaluate_task
from kl3m_embeddings.benchmark.items import Items
from kl3m_embeddings.benchmark.model import EmbeddingModel
from kl3m_embeddings.benchmark.neighbours import write_neighbours
from kl3m_embeddings.benchmark.scores import Score, merged, read_scores, write_scores
from kl3m_embeddings.benchmark.variants import Dtype, Variant, variants
from kl3m_embeddings.files.lock import folder_lock
from kl3m_embeddings.files.whole import make_folder

NOT_A_NUMBER = "the score is not a number: are all vectors, or all answers, the same?"
LOCK_FILE = ".scoring.lock"
NO_DATA = "its data is not on this machine, and the hub does not give it"

Key = tuple[Any, ...]
Samples = Float[np.ndarray, " samples"]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is scored, and where the results are."""

    folder: Path
    tasks: Sequence[AbsTask]
    dims: Sequence[int] = ()
    dtypes: Sequence[Dtype] = ()
    compare_with: str | None = None
    """The model that the others are compared with."""
    on_task: Callable[[str], None] = lambda _: None
    """Told before each task whose turn it is."""
    _without_data: set[str] = field(default_factory=set)
    _found: list[dict[str, Any]] = field(default_factory=list)
    _drawn: dict[Key, tuple[Items, Samples]] = field(default_factory=dict)

    def score(self, candidates: Sequence[Candidate]) -> list[Score]:
        """Score all, and return their rows; those of earlier calls stay in the folder.

        Raises:
            ConfigError: a model cannot be loaded.
            DataError: a line of the folder's scores is no row of scores.
            OutputError: the folder cannot be written to.
            RetryError: another process scores models there.
        """
        make_folder(self.folder)
        with folder_lock(self.folder / LOCK_FILE, "scores models"):
            return self._score(candidates)

    def _score(self, candidates: Sequence[Candidate]) -> list[Score]:
        known = read_scores(self.folder)
        rows: list[Score] = []
        for candidate in candidates:
            tasks = [task for task in self.tasks if candidate.can(task)]
            model = candidate.load()
            for task in tasks:
                self.on_task(f"{candidate.name}  {task.metadata.name}")
                rows += self._rows_of_task(candidate, model, task)
                write_scores(self.folder, merged(known, rows))
        others = {row.asked: row for row in rows if row.model == self.compare_with and row.is_plain}
        rows = [self._compared(row, others) for row in rows]
        write_scores(self.folder, merged(known, rows))
        write_neighbours(self.folder, self._found)
        return rows

    def _rows_of_task(self, candidate: Candidate, model: Any, task: AbsTask) -> list[Score]:  # noqa: ANN401
        """The rows of one model and one task, or one row that tells why there are none."""
        try:
            return list(self._rows(candidate, model, task))
        except Exception as error:  # one task's failure must not take the others' scores
            logging.getLogger(__name__).debug("%s", task.metadata.name, exc_info=True)
            message = str(error).strip().splitlines() or [type(error).__name__]
            row = new_row(candidate, model, task, Variant())
            return [replace(row, error=message[0])]

    def _load(self, task: AbsTask) -> None:
        """Load a task's data; it is not asked for again where it was not to be had."""
        for part in tasks_with_data(task):
            name = part.metadata.name
            if name not in self._without_data and not part.data_loaded:
                try:
                    part.load_data()
                except (OSError, HfHubHTTPError):
                    self._without_data.add(name)
            if name in self._without_data:
                raise RuntimeError(NO_DATA)

    def _rows(self, candidate: Candidate, model: Any, task: AbsTask) -> Iterator[Score]:  # noqa: ANN401
        """A row for each variant, split and subset."""
        forms = [Variant()]
        if isinstance(model, EmbeddingModel):
            model.begin(task)
            forms = variants(self.dims, self.dtypes, model.texts.embedding_size)
        for form in forms:
            if isinstance(model, EmbeddingModel):
                model.variant = form
            scores, time_s = evaluate_task(model, task, self.folder, self._load)
            for one in scores:
                row = replace(
                    new_row(candidate, model, task, form),
                    split=one.split,
                    subset=one.subset,
                    score=one.score,
                    error=NOT_A_NUMBER if one.score is None else None,
                    time_s=round(time_s, 3),
                )
                if row.is_plain:
                    of_task = {"model": row.model, "step": row.step, "task": row.task}
                    self._found.extend({**of_task, **found} for found in one.neighbours)
                yield row if one.items is None else self._with_interval(row, one.items)

    def _with_interval(self, row: Score, items: Items) -> Score:
        samples = resampled(items)
        self._drawn[row.key] = items, samples
        low, high = interval(samples) or (None, None)
        return replace(row, low=low, high=high, num_items=len(items.values))

    def _compared(self, row: Score, others: Mapping[Key, Score]) -> Score:
        """The row with its difference from the same score of another model."""
        other = others.get(row.asked)
        if other is None or other.key == row.key or row.score is None or other.score is None:
            return row
        row = replace(row, compared_with=other.model, difference=row.score - other.score)
        drawn, other_drawn = self._drawn.get(row.key), self._drawn.get(other.key)
        if drawn is None or other_drawn is None or not comparable(drawn[0], other_drawn[0]):
            return row
        low, high = interval(drawn[1] - other_drawn[1]) or (None, None)
        return replace(row, difference_low=low, difference_high=high)


def new_row(candidate: Candidate, model: Any, task: AbsTask, variant: Variant) -> Score:  # noqa: ANN401
    """A row without a score."""
    full_dim = model.texts.embedding_size if isinstance(model, EmbeddingModel) else 0
    return Score(
        model=candidate.name,
        revision=str(model.mteb_model_meta.revision),
        step=candidate.step,
        baseline=candidate.baseline,
        task=task.metadata.name,
        task_revision=str(task.metadata.revision),
        type=task.metadata.type,
        split="",
        subset="",
        metric=task.metadata.main_score,
        score=None,
        dim=variant.dim or full_dim,
        full_dim=full_dim,
        dtype=variant.dtype,
        control=variant.control,
    )
