"""One model and one task, scored by mteb once: the result stays in mteb's own folders.

`results/<model>/<revision>/<task>.json` is what mteb writes and reads; the revision is a hash of
the weights. The parts of a score lie beside, in `items/`.
"""

import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.cache import ResultCache
from mteb.models import ModelMeta
from mteb.results import TaskResult

from kl3m_embeddings.benchmark.aggregates import parts_of
from kl3m_embeddings.benchmark.items import SCORED_AGAIN, Items, items_of
from kl3m_embeddings.benchmark.neighbours import neighbours_of
from kl3m_embeddings.errors import DamagedError
from kl3m_embeddings.files.json_lines import read_lines, write_lines
from kl3m_embeddings.messages import warn

LOADER_BATCH = 4096
FOUND = ".found.jsonl"

Predictions = dict[tuple[str, str], Any]


class SubsetScore(NamedTuple):
    """The main score of one split and subset (a language, mostly); None: it is not a number."""

    split: str
    subset: str
    score: float | None
    items: Items | None
    neighbours: list[dict[str, Any]]
    """What was found for a few queries; see `neighbours_of`."""


def evaluate_task(
    model: Any,  # noqa: ANN401
    task: AbsTask,
    folder: Path,
    load: Callable[[AbsTask], None] = lambda _: None,
) -> tuple[list[SubsetScore], float]:
    """The scores of a model, made now or before, and the seconds that it took.

    Args:
        model: one of mteb's protocols; its `mteb_model_meta` says where the result belongs.
        task: with its data, unless `load` gets it.
        folder: of all results.
        load: called before a score is made.
    """
    cache, meta = ResultCache(folder), model.mteb_model_meta
    path = cache.get_task_result_path(task.metadata.name, meta)
    result = read_result(path)
    if result is not None and result.dataset_revision != task.metadata.revision:
        result = None
    if result is not None and (damage := damaged_details(task, result, meta, folder)):
        warn(str(damage))
        result = None
    if result is None or result.get_missing_evaluations(task):
        load(task)
        with quiet_mteb():
            made, predictions = run_mteb(model, task)
            keep_details(task, made, predictions, meta, folder)
        result = made if result is None else result.merge(made)
        cache.save_to_cache(result, meta)  # last: a result that is there is whole
        result = read_result(path)  # mteb rounds what it writes: a score is the same ever after
        assert result is not None
    scores = []
    for split, of_split in result.scores.items():
        for one in of_split:
            if split not in task.eval_splits or one["hf_subset"] not in task.hf_subsets:
                continue  # a language that another benchmark asked for
            place = items_path(folder, meta, task, split, one["hf_subset"])
            score = one["main_score"] if math.isfinite(one["main_score"]) else None
            items, found = read_details(place)
            scores.append(SubsetScore(split, one["hf_subset"], score, items, found))
    return scores, result.evaluation_time or 0.0


def read_details(place: Path) -> tuple[Items | None, list[dict[str, Any]]]:
    """The parts of a score and what was found, where the task has them.

    Raises:
        DamagedError: a file is not what was written.
    """
    return Items.load(place), read_lines(place.with_suffix(FOUND), SCORED_AGAIN)


def damaged_details(
    task: AbsTask, result: TaskResult, meta: ModelMeta, folder: Path
) -> DamagedError | None:
    """What is wrong with the files beside a result that was made before; None: nothing is."""
    try:
        for split, of_split in result.scores.items():
            for one in of_split:
                read_details(items_path(folder, meta, task, split, one["hf_subset"]))
    except DamagedError as error:
        return error
    return None


def run_mteb(model: Any, task: AbsTask) -> tuple[TaskResult, Predictions]:  # noqa: ANN401
    """Let mteb score; and what the model predicted, by split and subset.

    mteb offers to write predictions as JSON, which takes longer than a small model takes to
    encode. They are caught on their way to the file.
    """
    seed_again(task)
    predictions: Predictions = {}

    def keep(predicted: Any, *_: Any, hf_split: str, hf_subset: str, **__: Any) -> None:  # noqa: ANN401
        predictions[hf_split, hf_subset] = predicted

    parts = parts_of(task)
    for part in parts:  # nothing asks for what was predicted for the parts of an aggregate
        caught = keep if part is task else lambda *_, **__: None
        part._save_task_predictions = caught  # type: ignore[assignment, method-assign]
    try:
        (result,) = mteb.evaluate(
            model,
            task,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": LOADER_BATCH, "show_progress_bar": False},
            prediction_folder=Path(),
            show_progress_bar=False,
        ).task_results
    finally:
        for part in parts:
            del part._save_task_predictions
    return result, predictions


def seed_again(task: AbsTask) -> None:
    """Let a task draw as when it was made: each model, and each variant, gets the same samples."""
    for part in parts_of(task):
        part.rng_state, part.np_rng = random.Random(part.seed), np.random.default_rng(part.seed)


def read_result(path: Path) -> TaskResult | None:
    """A result that mteb wrote; None if there is none, or only half of one."""
    try:
        return TaskResult.from_disk(path) if path.exists() else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def keep_details(
    task: AbsTask, result: TaskResult, predictions: Predictions, meta: ModelMeta, folder: Path
) -> None:
    """Write the parts of each score, and what was found, where the task has them."""
    for split, of_split in result.scores.items():
        for scores in of_split:
            subset = scores["hf_subset"]
            path = items_path(folder, meta, task, split, subset)
            path.unlink(missing_ok=True)
            predicted = predictions.get((split, subset))
            if predicted is not None:
                items = items_of(task, predicted, split, subset, scores["main_score"])
                if items is not None:
                    items.save(path)
                if meta.experiment_name is None:  # of the vectors as they are
                    found = neighbours_of(task, predicted, split, subset)
                    write_lines(path.with_suffix(FOUND), found)


def items_path(folder: Path, meta: ModelMeta, task: AbsTask, split: str, subset: str) -> Path:
    """Where the parts of a score are."""
    variant = meta.experiment_name or "plain"
    place = folder / "items" / meta.model_name_as_path() / str(meta.revision) / variant
    return place / f"{task.metadata.name}.{split}.{subset}.json"


@contextmanager
def quiet_mteb() -> Iterator[None]:
    """No log lines, warnings and bars of mteb's while inside: what matters is in the result."""
    logger = logging.getLogger("mteb")
    level, bars = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
