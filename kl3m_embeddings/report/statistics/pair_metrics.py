"""The metrics of held-out pairs in eval.jsonl, found among its fields by their names.

A set's fields are `set/metric`, `set/metric/64` at a smaller size of the embedding, and counts such
as `set/num_queries`. A name that is neither is another field.
"""

from dataclasses import dataclass, field

import polars as pl

from kl3m_embeddings.report.statistics.plain import LEFT_OUT

HEADLINES = ("ndcg@10", "ap", "spearman")
METRICS = (
    *HEADLINES, "mrr@10", "recall@1", "recall@10", "recall@100", "auc", "accuracy", "f1", "pearson",
)  # fmt: skip
THRESHOLDS = ("accuracy_threshold", "f1_threshold")
COUNTS = ("num_queries", "num_documents", "num_pairs")
PROBES = "tasks"


@dataclass(frozen=True)
class MetricField:
    """A field of a set; `dim` is None at the embedding's full size."""

    metric: str
    dim: int | None
    points: pl.DataFrame
    """Columns step and value, of the evaluations in which it has one."""
    first: float | None
    last: float | None
    """None if it has none in the set's first or last evaluation: it was not finite."""

    @property
    def best(self) -> tuple[float, int] | None:
        """The highest value, and its step; of a threshold none is better than another."""
        if self.metric in THRESHOLDS:
            return None
        best = self.points.filter(pl.col("value") == pl.col("value").max())
        return best["value"][0], best["step"][0]


@dataclass(frozen=True)
class MetricSet:
    """A set of held-out pairs: its metrics, the headline first, each with its sizes falling."""

    name: str
    fields: list[MetricField]
    counts: dict[str, int]

    @property
    def headline(self) -> MetricField:
        """The metric to judge by, at the largest size."""
        return self.fields[0]

    def of_headline(self) -> list[MetricField]:
        """The headline at all sizes, the largest first."""
        return [field for field in self.fields if field.metric == self.headline.metric]

    def others(self) -> list[MetricField]:
        """The other metrics at the largest size."""
        largest = self.headline.dim
        return [
            field
            for field in self.fields
            if field.metric in METRICS
            and field.metric != self.headline.metric
            and field.dim == largest
        ]


@dataclass(frozen=True, kw_only=True)
class MetricStatistics:
    """The values of a metric along the run; `dim` is None at the embedding's full size.

    A threshold has no best value.
    """

    name: str
    dim: int | None
    first: float | None
    best: float | None
    best_step: int | None
    last: float | None


@dataclass(frozen=True, kw_only=True)
class PairMetrics:
    """A set of held-out pairs: how many texts it has, and its metrics.

    `headline` is the metric to judge by, and comes first.
    """

    name: str
    num_queries: int | None = field(default=None, metadata=LEFT_OUT)
    num_documents: int | None = field(default=None, metadata=LEFT_OUT)
    num_pairs: int | None = field(default=None, metadata=LEFT_OUT)
    headline: str
    metrics: list[MetricStatistics]


def parsed(name: str) -> tuple[str, str, int | None] | None:
    """Set, metric (or count) and size of a field of eval.jsonl; None if it is none of a set."""
    parts = name.split("/")
    dim = int(parts.pop()) if parts[-1].isdecimal() and len(parts[-1]) < 9 else None
    if len(parts) < 2 or parts[-1] not in (*METRICS, *THRESHOLDS, *COUNTS):
        return None
    if len(parts) > 2 and parts[0] == PROBES:  # see quality.py
        return None
    return "/".join(parts[:-1]), parts[-1], dim


def without_pair_metrics(evals: pl.DataFrame) -> pl.DataFrame:
    """The evaluations without the fields of sets."""
    return evals.select(name for name in evals.columns if parsed(name) is None)


def find_sets(evals: pl.DataFrame) -> list[MetricSet]:
    """The sets that have a metric, in the order of their fields."""
    columns: dict[str, dict[tuple[str, int | None], str]] = {}
    for column in evals.columns:
        if (found := parsed(column)) is not None and evals[column].count():
            columns.setdefault(found[0], {})[found[1:]] = column
    sets = (of_set(name, evals, known) for name, known in columns.items())
    return [one for one in sets if one.fields and one.headline.metric in METRICS]


def of_set(name: str, evals: pl.DataFrame, columns: dict[tuple[str, int | None], str]) -> MetricSet:
    """A set from the columns of its metrics, sizes and counts."""
    rows = evals.filter(pl.any_horizontal(pl.col(*columns.values()).is_not_null()))
    ordered = [
        (metric, dim)
        for metric in (*METRICS, *THRESHOLDS)
        for dim in sorted(
            (dim for known, dim in columns if known == metric), key=lambda dim: -(dim or 10**9)
        )
    ]
    fields = [
        MetricField(
            metric=metric,
            dim=dim,
            points=rows.select("step", value=columns[metric, dim]).drop_nulls(),
            first=rows[columns[metric, dim]][0],
            last=rows[columns[metric, dim]][-1],
        )
        for metric, dim in ordered
    ]
    counts = {
        count: int(rows[columns[count, None]].drop_nulls()[-1])
        for count in COUNTS
        if (count, None) in columns
    }
    return MetricSet(name, fields, counts)


def metrics_of_sets(sets: list[MetricSet]) -> list[PairMetrics]:
    """The first, best and last value of every metric of every set."""
    return [
        PairMetrics(
            name=one.name,
            **one.counts,
            headline=one.headline.metric,
            metrics=[metric_statistics(field) for field in one.fields],
        )
        for one in sets
    ]


def metric_statistics(field: MetricField) -> MetricStatistics:
    """The first, best and last value of a metric."""
    best, best_step = field.best or (None, None)
    return MetricStatistics(
        name=field.metric,
        dim=field.dim,
        first=field.first,
        best=best,
        best_step=best_step,
        last=field.last,
    )
