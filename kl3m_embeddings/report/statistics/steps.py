"""What steps cost and how they went: speed, phases, clipping, skipped steps, the data they saw."""

from typing import Any

import polars as pl

from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import last, mean, percentile, summary, total

Statistics = dict[str, Any]

PHASES = ("sample", "forward", "backward", "optimizer")


def speed(steps: pl.DataFrame) -> Statistics:
    """Tokens a second, by the step times and as logged; the device's memory and use."""
    timed = steps.select("num_tokens", "step_time").drop_nulls()
    num_tokens, seconds = total(timed["num_tokens"]), total(timed["step_time"])
    return {
        "tokens_per_s": num_tokens / seconds if num_tokens is not None and seconds else None,
        "token_rate": summary(steps["token_rate"]),
        "step_time_s": summary(steps["step_time"]),
        "device_mb_max": percentile(steps["device_mb"], 100),
        "mfu": summary(steps["mfu"]),
    }


def phases(steps: pl.DataFrame) -> list[Statistics]:
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
        {"name": name, "seconds": seconds, "share": seconds / whole}
        for name, seconds in known.items()
    ]


def is_usual() -> pl.Expr:
    """Whether a step's time is in the middle half of all, or of its group in an aggregation.

    Means over these steps do not see outliers and, other than medians, add up.
    """
    time = pl.col("step_time")
    return time.is_between(time.quantile(0.25), time.quantile(0.75))


def clipping(steps: pl.DataFrame) -> Statistics:
    """How often the gradient was clipped: its norm above the threshold of that step."""
    known = steps.select("grad_norm", "clip_threshold").drop_nulls()
    num_clipped = known.filter(pl.col("grad_norm") > pl.col("clip_threshold")).height
    return {
        "num_clipped": num_clipped,
        "share": num_clipped / known.height if known.height else None,
        "grad_norm": summary(steps["grad_norm"]),
        "last_threshold": last(steps["clip_threshold"]),
    }


def skipped(steps: pl.DataFrame) -> Statistics:
    """Steps without an update, because the loss or the gradient was not finite."""
    at = steps.filter("skipped")["step"]
    return {
        "num_skipped": len(at),
        "share": len(at) / steps.height if steps.height else None,
        "last_steps": at.tail(10).to_list(),
    }


def fallbacks(steps: pl.DataFrame) -> Statistics | None:
    """Samples that did not have what their task needs, and were used in a simpler way."""
    num_fallback, num_samples = total(steps["num_fallback"]), total(steps["num_samples"])
    if num_fallback is None or not num_samples:
        return None
    return {"num_fallback": num_fallback, "share": num_fallback / num_samples}


def datasets(run: Run) -> list[Statistics]:
    """Samples and tokens from each dataset, largest first."""
    samples = totals_by_name(run.log.samples_by_dataset).rename({"count": "num_samples"})
    tokens = totals_by_name(run.log.tokens_by_dataset).rename({"count": "num_tokens"})
    return (
        samples.join(tokens, on="name", how="full", coalesce=True)
        .with_columns(
            (pl.col("num_samples") / pl.col("num_samples").sum()).alias("share_of_samples"),
            (pl.col("num_tokens") / pl.col("num_tokens").sum()).alias("share_of_tokens"),
        )
        .sort("num_samples", "num_tokens", "name", descending=[True, True, False], nulls_last=True)
        .to_dicts()
    )


def totals_by_name(table: pl.DataFrame) -> pl.DataFrame:
    """The sum of `count` for each `name`."""
    return table.group_by("name").agg(pl.col("count").sum()).cast({"name": pl.String})
