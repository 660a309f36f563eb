"""The quality of the embeddings along the run, and whether the singular values foretell it.

1. Small tasks that the trainer evaluates stand in eval.jsonl as `tasks/<name>/<metric>`, and at a
   smaller size of the embedding as `tasks/<name>/<metric>/64`. The benchmark's scores of the run's
   checkpoints are used as well.
2. Quality is the mean over those tasks that were measured whenever any was: over changing tasks a
   mean says nothing.
3. Its rank correlation (Spearman's) with `svd_mean_ratio_1` is taken over the evaluations. Both
   change with the steps, so it tells whether they go together, not that one causes the other.
"""

import math
from dataclasses import dataclass

import polars as pl

from kl3m_embeddings.report.names import number
from kl3m_embeddings.report.read.benchmark import unique_task_names
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.pair_metrics import PROBES

RATIO = "svd_mean_ratio_1"
HEADLINES = ("ndcg@10", "ndcg_at_10", "ap", "spearman", "cosine_spearman", "main_score")
MIN_EVALS = 5
# A correlation of independent ranks is beyond 1.96 / sqrt(n - 1) once in twenty times.
TWO_SIDED_5_PERCENT = 1.96

# Columns step and value, by the name of what was measured.
Series = dict[str, pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class ProbeStatistics:
    """The values of a task that the trainer evaluates; `name` has its metric, higher is better."""

    name: str
    first: float
    best: float
    best_step: int
    last: float


@dataclass(frozen=True, kw_only=True)
class SvdAndQuality:
    """How the ratio of singular values goes with the quality, over `num_evals` evaluations."""

    spearman: float | None
    """Their rank correlation; None where there are too few, or one does not change."""
    num_evals: int
    num_tasks: int
    """Whose mean is the quality."""
    sentence: str
    """What the correlation means, in words."""


def probe_series(evals: pl.DataFrame) -> Series:
    """The metric to judge by of each task in eval.jsonl, at the full size."""
    metrics: dict[str, list[str]] = {}
    for column in evals.columns:
        parts = column.split("/")
        if len(parts) > 2 and parts[0] == PROBES and evals[column].count():
            is_smaller = len(parts) > 3 and parts[-1].isdecimal()
            if not is_smaller:
                metrics.setdefault("/".join(parts[1:-1]), []).append(parts[-1])
    series = {}
    for name, known in metrics.items():
        metric = next((headline for headline in HEADLINES if headline in known), known[0])
        column = f"{PROBES}/{name}/{metric}"
        series[f"{name} {metric}"] = evals.select("step", value=evals[column]).drop_nulls()
    return series


def probe_statistics(evals: pl.DataFrame) -> list[ProbeStatistics]:
    """The first, best and last value of each task in eval.jsonl."""
    rows = []
    for name, points in probe_series(evals).items():
        best = points.filter(pl.col("value") == pl.col("value").max())
        rows.append(
            ProbeStatistics(
                name=name,
                first=points["value"][0],
                best=best["value"][0],
                best_step=best["step"][0],
                last=points["value"][-1],
            )
        )
    return rows


def score_series(run: Run) -> Series:
    """The benchmark's scores of the run's checkpoints, of tasks with scores at several steps."""
    scores = [
        score
        for score in run.benchmark.own_scores
        if score.is_plain and score.score is not None and score.step is not None
    ]
    names = unique_task_names(scores)
    points: dict[str, dict[int, float]] = {}
    for score in scores:
        points.setdefault(names[score.of], {})[score.step or 0] = score.score or 0.0
    return {
        name: pl.DataFrame(
            {"step": list(values), "value": list(values.values())},
            schema={"step": pl.Int64, "value": pl.Float64},
        ).sort("step")
        for name, values in points.items()
        if len(values) > 1
    }


def mean_quality(series: Series) -> tuple[pl.DataFrame, int]:
    """The mean of those series that have all steps that any has, and their number."""
    if not series:
        return pl.DataFrame(schema={"step": pl.Int64, "value": pl.Float64}), 0
    most = max(len(points) for points in series.values())
    full = [points for points in series.values() if len(points) == most]
    joined = pl.concat(full).group_by("step").agg(pl.col("value").mean(), pl.len())
    whole = joined.filter(pl.col("len") == len(full)).select("step", "value").sort("step")
    return whole, len(full)


def svd_and_quality(run: Run) -> SvdAndQuality | None:
    """Whether the ratio of singular values goes with the quality; None without either."""
    series = probe_series(run.evals) or score_series(run)
    if not series or not run.has_eval(RATIO):
        return None
    quality, num_tasks = mean_quality(series)
    ratios = run.evals.select("step", ratio=RATIO).drop_nulls()
    both = quality.join_asof(ratios, on="step").drop_nulls()
    spearman = rank_correlation(both["ratio"], both["value"]) if len(both) >= MIN_EVALS else None
    return SvdAndQuality(
        spearman=spearman,
        num_evals=len(both),
        num_tasks=num_tasks,
        sentence=sentence(spearman, len(both), num_tasks),
    )


def rank_correlation(left: pl.Series, right: pl.Series) -> float | None:
    """Spearman's correlation, ties sharing their mean rank; None if either does not change."""
    ranks = pl.DataFrame({"left": left.rank("average"), "right": right.rank("average")})
    value = ranks.select(pl.corr("left", "right")).item()
    return float(value) if value is not None and math.isfinite(value) else None


def sentence(spearman: float | None, num_evals: int, num_tasks: int) -> str:
    """What the correlation means, in words."""
    question = "whether the ratio of singular values foretells the quality of the embeddings"
    if num_evals < MIN_EVALS:
        return f"Too few evaluations ({num_evals}) to say {question}; {MIN_EVALS} are needed."
    if spearman is None:
        return f"No saying {question}: one of the two did not change in {num_evals} evaluations."
    tasks = "the task's score" if num_tasks == 1 else f"the mean score of {num_tasks} tasks"
    found = (
        f"Spearman's correlation of {RATIO} with {tasks} is {number(spearman, 2)} "
        f"over {num_evals} evaluations"
    )
    if abs(spearman) < TWO_SIDED_5_PERCENT / math.sqrt(num_evals - 1):
        return f"{found}: the ratio does not foretell quality here (no more than chance gives)."
    way = "better" if spearman > 0 else "worse"
    return (
        f"{found}: the higher the ratio, the {way} the embeddings here. "
        "Both change with the steps, so this is no proof of a cause."
    )
