"""The scores of several models side by side, as plain numbers: `benchmark` in `stats.json`."""

from collections.abc import Sequence
from dataclasses import replace

from kl3m_embeddings.report.read.benchmark import Benchmark, newest, unique_task_names
from kl3m_embeddings.report.read.benchmark_rows import Score
from kl3m_embeddings.report.statistics.steps import Statistics

OF_A_CELL = (
    "score", "low", "high", "num_items", "compared_with", "difference", "difference_low",
    "difference_high",
)  # fmt: skip


def score_statistics(scores: Sequence[Score]) -> Statistics | None:
    """Models, tasks with a score of each model (None: it has none), and what failed.

    Only embeddings as they are count here: whole, float32. A model's own rows come first.
    """
    scores = newest(scores)
    main = [score for score in scores if score.is_main and score.error is None]
    names = unique_task_names(main)
    models = list({score.model: score for score in sorted(main, key=is_baseline)}.values())
    cells = {(score.of, score.model): score for score in main}
    tasks = [
        {
            "name": names[of],
            "type": of[0],
            "metric": of[4],
            "scores": [as_cell(cells.get((of, model.model))) for model in models],
        }
        for of in sorted(names)
    ]
    failed = [score for score in scores if score.error is not None]
    if not tasks and not failed:
        return None
    return {
        "models": [
            {
                "name": model.model,
                "step": model.step,
                "dim": model.dim,
                "baseline": model.baseline,
            }
            for model in models
        ],
        "tasks": tasks,
        "means": means(tasks, len(models)),
        "failed": [
            {"task": score.task, "model": score.model, "error": score.error} for score in failed
        ],
    }


def is_baseline(score: Score) -> bool:
    """Whether it is of a model that is there to be compared with."""
    return score.baseline


def as_cell(score: Score | None) -> Statistics | None:
    """What is shown of a score."""
    if score is None or score.score is None:
        return None
    return {name: getattr(score, name) for name in OF_A_CELL}


def means(tasks: Sequence[Statistics], num_models: int) -> Statistics | None:
    """Each model's mean over the tasks that all of them have: others cannot be compared."""
    shared = [task["scores"] for task in tasks if all(task["scores"])]
    if len(shared) < 2:
        return None
    totals = [sum(cells[place]["score"] for cells in shared) for place in range(num_models)]
    return {"num_tasks": len(shared), "scores": [whole / len(shared) for whole in totals]}


def scores_of_runs(benchmarks: Sequence[Benchmark], names: Sequence[str]) -> list[Score]:
    """The newest scores of several runs: their own models by the runs' names, each baseline once.

    A baseline that goes by a run's name is told from it: it may be another checkpoint.

    Args:
        benchmarks: what was measured, of each run.
        names: the runs' names, which are unique.
    """
    found: dict[tuple[object, ...], Score] = {}
    for benchmark, name in zip(benchmarks, names, strict=True):
        candidates = [score for score in benchmark.scores if not score.baseline]
        several = len({score.model for score in candidates}) > 1
        for score in newest(candidates):
            label = f"{name}: {score.model}" if several else name
            found[cell_of(score, label)] = replace(score, model=label)
    labels = {score.model for score in found.values()}
    for benchmark in benchmarks:
        for score in newest([score for score in benchmark.scores if score.baseline]):
            label = f"{score.model} (baseline)" if score.model in labels else score.model
            found[cell_of(score, label)] = replace(score, model=label)
    return list(found.values())


def cell_of(score: Score, model: str) -> tuple[object, ...]:
    """What stands for a score but its value."""
    return model, score.of, score.dim, score.dtype, score.control
