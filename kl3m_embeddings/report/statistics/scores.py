"""The scores of several models side by side, as plain numbers: `benchmark` in `stats.json`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kl3m_embeddings.report.read.benchmark import Benchmark, newest, unique_task_names
from kl3m_embeddings.report.read.benchmark_rows import Score


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A model with scores; `dim` is the size of its embeddings."""

    name: str
    step: int | None
    dim: int
    baseline: bool


@dataclass(frozen=True, kw_only=True)
class ScoreCell:
    """A model's score on a task, with the ends of its 95% bootstrap interval.

    `difference` is this score less that of the model `compared_with`, with its interval's ends.
    """

    score: float
    low: float | None
    high: float | None
    num_items: int | None
    compared_with: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """A task with the score of each model, in the models' order; None: it has none."""

    name: str
    """As much of task, subset, split and metric as tells it from others."""
    type: str
    metric: str
    scores: list[ScoreCell | None]


@dataclass(frozen=True, kw_only=True)
class MeanScores:
    """Each model's mean over the tasks that all models have."""

    num_tasks: int
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class FailedTask:
    """A task without a score of a model, and why."""

    task: str
    model: str
    error: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkStatistics:
    """Models and their scores side by side; `means` is None where they share too few tasks."""

    models: list[ScoredModel]
    tasks: list[TaskScores]
    means: MeanScores | None
    failed: list[FailedTask]


def score_statistics(
    scores: Sequence[Score], *, every_step: bool = False
) -> BenchmarkStatistics | None:
    """Models, tasks with a score of each model (None: it has none), and what failed.

    Only embeddings as they are count here: whole, float32. A model's own rows come first. Of a
    model with steps the newest counts, unless `every_step` is to be one of its own.
    """
    scores = scores if every_step else newest(scores)
    main = [score for score in scores if score.is_plain and score.error is None]
    names = unique_task_names(main)
    models = {(score.model, score.step): score for score in sorted(main, key=is_baseline)}
    cells = {(score.of, score.model, score.step): score for score in main}
    tasks = [
        TaskScores(
            name=names[of],
            type=of[0],
            metric=of[4],
            scores=[as_cell(cells.get((of, *model))) for model in models],
        )
        for of in sorted(names)
    ]
    failed = [
        FailedTask(task=score.task, model=score.model, error=score.error)
        for score in scores
        if score.error is not None
    ]
    if not tasks and not failed:
        return None
    return BenchmarkStatistics(
        models=[as_model(score) for score in models.values()],
        tasks=tasks,
        means=means(tasks, len(models)),
        failed=failed,
    )


def as_model(score: Score) -> ScoredModel:
    """The model that a score is of."""
    return ScoredModel(name=score.model, step=score.step, dim=score.dim, baseline=score.baseline)


def is_baseline(score: Score) -> bool:
    """Whether it is of a model that is there to be compared with."""
    return score.baseline


def as_cell(score: Score | None) -> ScoreCell | None:
    """What is shown of a score."""
    if score is None or score.score is None:
        return None
    return ScoreCell(
        score=score.score,
        low=score.low,
        high=score.high,
        num_items=score.num_items,
        compared_with=score.compared_with,
        difference=score.difference,
        difference_low=score.difference_low,
        difference_high=score.difference_high,
    )


def means(tasks: Sequence[TaskScores], num_models: int) -> MeanScores | None:
    """Each model's mean over the tasks that all of them have: others cannot be compared."""
    known = [[cell.score for cell in task.scores if cell is not None] for task in tasks]
    shared = [scores for scores in known if len(scores) == num_models]
    if len(shared) < 2:
        return None
    totals = [sum(scores[index] for scores in shared) for index in range(num_models)]
    return MeanScores(num_tasks=len(shared), scores=[whole / len(shared) for whole in totals])


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
