"""One model and one task, scored by mteb once: the result stays in mteb's own folders.

`results/<model>/<revision>/<task>.json` is what mteb writes and reads; the revision is a hash of
the weights. The parts of a score lie beside, in `items/`.
"""

import json
import logging
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.cache import ResultCache
from mteb.models import ModelMeta
from mteb.results import TaskResult

from kl3m_embeddings.benchmark.items import Items, items_of

LOADER_BATCH = 4096


class SubsetScore(NamedTuple):
    """The main score of one split and subset (a language, mostly); None: it is not a number."""

    split: str
    subset: str
    score: float | None
    items: Items | None


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
    result = read_result(cache.get_task_result_path(task.metadata.name, meta))
    if result is not None and result.dataset_revision != task.metadata.revision:
        result = None
    if result is None or result.get_missing_evaluations(task):
        load(task)
        with tempfile.TemporaryDirectory() as scratch, quiet_mteb():
            made = run_mteb(model, task, Path(scratch))
            keep_items(task, made, Path(scratch), meta, folder)
        result = made if result is None else result.merge(made)
        cache.save_to_cache(result, meta)  # last: a result that is there is whole
    scores = [
        SubsetScore(
            split,
            scores["hf_subset"],
            scores["main_score"] if math.isfinite(scores["main_score"]) else None,
            Items.load(items_path(folder, meta, task, split, scores["hf_subset"])),
        )
        for split, of_split in result.scores.items()
        for scores in of_split
        # a result may have languages that another benchmark asked for
        if split in task.eval_splits and scores["hf_subset"] in task.hf_subsets
    ]
    return scores, result.evaluation_time or 0.0


def run_mteb(model: Any, task: AbsTask, scratch: Path) -> TaskResult:  # noqa: ANN401
    """Let mteb score; what the model predicted goes to `scratch`."""
    seed_again(task)
    (result,) = mteb.evaluate(
        model,
        task,
        cache=None,
        co2_tracker=False,
        encode_kwargs={"batch_size": LOADER_BATCH, "show_progress_bar": False},
        prediction_folder=scratch,
        show_progress_bar=False,
    ).task_results
    return result


def seed_again(task: AbsTask) -> None:
    """Let a task draw as when it was made: each model, and each variant, gets the same samples."""
    for part in task.tasks if isinstance(task, AbsTaskAggregate) else ():
        seed_again(part)
    task.rng_state, task.np_rng = random.Random(task.seed), np.random.default_rng(task.seed)


def read_result(path: Path) -> TaskResult | None:
    """A result that mteb wrote; None if there is none, or only half of one."""
    try:
        return TaskResult.from_disk(path) if path.exists() else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def keep_items(
    task: AbsTask, result: TaskResult, scratch: Path, meta: ModelMeta, folder: Path
) -> None:
    """Write the parts of each score that has parts."""
    predictions = scratch / task.prediction_file_name
    for split, of_split in result.scores.items():
        for scores in of_split:
            subset = scores["hf_subset"]
            path = items_path(folder, meta, task, split, subset)
            path.unlink(missing_ok=True)
            if predictions.exists():
                of_subset = json.loads(predictions.read_text(encoding="utf-8"))[subset][split]
                items = items_of(task, of_subset, split, subset, scores["main_score"])
                if items is not None:
                    items.save(path)


def items_path(folder: Path, meta: ModelMeta, task: AbsTask, split: str, subset: str) -> Path:
    """Where the parts of a score are."""
    variant = meta.experiment_name or "plain"
    place = folder / "items" / meta.model_name_as_path() / str(meta.revision) / variant
    return place / f"{task.metadata.name}.{split}.{subset}.json"


@contextmanager
def quiet_mteb() -> Iterator[None]:
    """No log lines and warnings of mteb's while inside: what matters is in the result."""
    logger = logging.getLogger("mteb")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
