"""What steps cost and how they went: speed, phases, clipping, skipped steps, the data they saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kl3m_embeddings.report.read.run import Run, is_real
from kl3m_embeddings.report.statistics.columns import (
    Summary,
    last,
    mean,
    percentile,
    summary,
    total,
)

PHASES = ("sample", "forward", "backward", "optimizer")
NUM_SKIPPED_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class SpeedStatistics:
    """How fast the steps were; `mfu` is model FLOPs utilisation, which 1 is the most of."""

    tokens_per_s: float | None
    """All tokens over all step times."""
    token_rate: Summary | None
    """Tokens a second, as logged."""
    step_time_s: Summary | None
    device_mb_max: float | None
    mfu: Summary | None


@dataclass(frozen=True, kw_only=True)
class PhaseTime:
    """The mean time of a phase of a usual step, and its share of all phases."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True, kw_only=True)
class ClippingStatistics:
    """How often the gradient was clipped; `share` is of the steps with norm and threshold."""

    num_clipped: int
    share: float | None
    grad_norm: Summary | None
    last_threshold: float | None


@dataclass(frozen=True, kw_only=True)
class SkippedSteps:
    """Steps without an update; `last_steps` are the last of them, in order."""

    num_skipped: int
    share: float | None
    last_steps: list[int]


@dataclass(frozen=True, kw_only=True)
class FallbackStatistics:
    """Samples that did not have what their task needs; `share` is of all samples."""

    num_fallback: float
    share: float


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics:
    """What a dataset contributed: None where the log does not count it."""

    name: str
    num_samples: float | None
    num_tokens: float | None
    share_of_samples: float | None
    share_of_tokens: float | None


def speed(run: Run) -> SpeedStatistics:
    """Tokens a second, by the step times and as logged; the device's memory and use."""
    steps = run.steps
    timed = steps.select("num_tokens", "step_time").drop_nulls()
    num_tokens, seconds = total(timed["num_tokens"]), total(timed["step_time"])
    return SpeedStatistics(
        tokens_per_s=num_tokens / seconds if num_tokens is not None and seconds else None,
        token_rate=summary(steps["token_rate"]),
        step_time_s=summary(steps["step_time"]),
        device_mb_max=percentile(steps["device_mb"], 100),
        mfu=summary(mfu_of_best_peak(steps, run.starts)),
    )


def mfu_of_best_peak(steps: pl.DataFrame, starts: Sequence[Mapping[str, Any]]) -> pl.Series:
    """`mfu` out of the best peak that was measured on the step's device, be it before or after.

    A device that was busy when its peak was measured seems to be used better than it is. What it
    did once it can do always. Rows without `peak_flops` have that of the start before them.
    """
    devices = [
        (
            start["step"],
            str(hardware.get("device_name")),
            as_number(hardware.get("peak_flops")),
        )
        for start in starts
        if isinstance(hardware := start.get("hardware"), dict)
    ]
    schema = {"first": pl.Int64, "device": pl.String, "at_start": pl.Float64}
    table = pl.DataFrame(devices, schema=schema, orient="row").sort("first", maintain_order=True)
    # a start at step 100 is of the rows from 101 on
    before = steps.select("mfu", "peak_flops", first=pl.col("step") - 1).set_sorted("first")
    of_device = before.join_asof(table.set_sorted("first"), on="first", check_sortedness=False)
    peak = pl.coalesce("peak_flops", "at_start")
    best = pl.max_horizontal(peak.max(), pl.col("at_start").max()).over("device")
    return of_device.select((pl.col("mfu") * (peak / best).fill_null(1.0)).alias("mfu"))["mfu"]


def as_number(value: object) -> float | None:
    """The number, if it is one."""
    return float(value) if isinstance(value, int | float) and is_real(value) else None


def phases(steps: pl.DataFrame) -> list[PhaseTime]:
    """The time of each phase of a usual step; `other` is what the step takes beyond them."""
    usual = steps.filter(is_usual())
    means = {phase: mean(usual[f"{phase}_time"]) for phase in PHASES}
    known = {phase: seconds for phase, seconds in means.items() if seconds is not None}
    step_time = mean(usual["step_time"])
    if not known or step_time is None:
        return []
    if step_time > sum(known.values()):
        known["other"] = step_time - sum(known.values())
    whole = sum(known.values()) or 1.0
    return [
        PhaseTime(name=name, seconds=seconds, share=seconds / whole)
        for name, seconds in known.items()
    ]


def is_usual() -> pl.Expr:
    """Whether a step's time is in the middle half of all, or of its group in an aggregation.

    Means over these steps do not see outliers and, other than medians, add up.
    """
    time = pl.col("step_time")
    return time.is_between(time.quantile(0.25), time.quantile(0.75))


def clipping(steps: pl.DataFrame) -> ClippingStatistics:
    """How often the gradient was clipped: its norm above the threshold of that step."""
    known = steps.select("grad_norm", "clip_threshold").drop_nulls()
    num_clipped = known.filter(pl.col("grad_norm") > pl.col("clip_threshold")).height
    return ClippingStatistics(
        num_clipped=num_clipped,
        share=num_clipped / known.height if known.height else None,
        grad_norm=summary(steps["grad_norm"]),
        last_threshold=last(steps["clip_threshold"]),
    )


def skipped(steps: pl.DataFrame) -> SkippedSteps:
    """Steps without an update, because the loss or the gradient was not finite."""
    at = steps.filter("skipped")["step"]
    return SkippedSteps(
        num_skipped=len(at),
        share=len(at) / steps.height if steps.height else None,
        last_steps=at.tail(NUM_SKIPPED_NAMED).to_list(),
    )


def fallbacks(steps: pl.DataFrame) -> FallbackStatistics | None:
    """Samples that did not have what their task needs, and were used in a simpler way."""
    num_fallback, num_samples = total(steps["num_fallback"]), total(steps["num_samples"])
    if num_fallback is None or not num_samples:
        return None
    return FallbackStatistics(num_fallback=num_fallback, share=num_fallback / num_samples)


def datasets(run: Run) -> list[DatasetStatistics]:
    """Samples and tokens from each dataset, largest first."""
    samples = totals_by_name(run.log.samples_by_dataset).rename({"count": "num_samples"})
    tokens = totals_by_name(run.log.tokens_by_dataset).rename({"count": "num_tokens"})
    joined = (
        samples.join(tokens, on="name", how="full", coalesce=True)
        .with_columns(
            (pl.col("num_samples") / pl.col("num_samples").sum()).alias("share_of_samples"),
            (pl.col("num_tokens") / pl.col("num_tokens").sum()).alias("share_of_tokens"),
        )
        .sort("num_samples", "num_tokens", "name", descending=[True, True, False], nulls_last=True)
    )
    return [DatasetStatistics(**row) for row in joined.to_dicts()]


def totals_by_name(table: pl.DataFrame) -> pl.DataFrame:
    """The sum of `count` for each `name`."""
    return table.group_by("name").agg(pl.col("count").sum()).cast({"name": pl.String})
