"""How fast a run is, what its evaluations cost, and how well its steps go, as rich tables."""

from collections.abc import Callable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from kl3m_embeddings.report.names import count, duration, number, percent
from kl3m_embeddings.report.statistics.columns import Summary
from kl3m_embeddings.report.statistics.evaluations import EvalStatistics
from kl3m_embeddings.report.statistics.run_statistics import RunStatistics
from kl3m_embeddings.report.statistics.steps import PhaseTime, SpeedStatistics
from kl3m_embeddings.report.tables.parts import grid, pairs_table


def speed_tables(statistics: RunStatistics) -> Iterator[RenderableType]:
    """How fast it runs, and how well."""
    beside = evaluation_times(statistics.eval, statistics.progress.elapsed_s)
    yield from pairs_table("Speed", [*speed_rows(statistics.speed), ("evaluations", beside)])
    yield from phases_table(statistics.phases)
    yield from pairs_table("Health", health_rows(statistics))


def speed_rows(speed: SpeedStatistics) -> list[tuple[str, str | None]]:
    """Tokens a second, step times, memory and use of the device."""
    rate, mfu, memory_mb = speed.token_rate, speed.mfu, speed.device_mb_max
    return [
        ("tokens/s by step time", count(speed.tokens_per_s)),
        (
            "tokens/s as logged",
            f"last {count(rate.last)}, median {count(rate.median)}" if rate else None,
        ),
        ("step time", spread(speed.step_time_s, duration)),
        ("device memory", None if memory_mb is None else f"{number(memory_mb)} MB at most"),
        ("use of the device (MFU)", use_of_device(mfu.median) if mfu else None),
    ]


def use_of_device(mfu: float | None) -> str:
    """A share of the device's peak; marked where it cannot be, above 100%."""
    if mfu is None or mfu <= 1:
        return percent(mfu)
    return f"{percent(mfu)}: cannot be, the device was busy whenever its peak was measured"


def evaluation_times(evals: EvalStatistics | None, steps_s: float | None) -> str | None:
    """How long evaluations took in all, and each part of them, over the time of the steps."""
    times = evals.times if evals else {}
    whole_s = times.get("eval")
    if not steps_s or whole_s is None:
        return None
    parts = [
        f"{part} {percent(seconds / steps_s)}"
        for part, seconds in times.items()
        if part != "eval" and seconds is not None
    ]
    shares = f" ({', '.join(parts)})" if parts else ""
    return f"{duration(whole_s)}, {percent(whole_s / steps_s)} of the time of the steps{shares}"


def spread(summary: Summary | None, shown: Callable[[float | int | None], str]) -> str | None:
    """Median, 95th percentile and maximum in one line."""
    if summary is None:
        return None
    median, p95, highest = map(shown, (summary.median, summary.p95, summary.max))
    return f"median {median}, p95 {p95}, largest {highest}"


def phases_table(phases: Sequence[PhaseTime]) -> Iterator[Table]:
    """The phases of a usual step; they add up to it."""
    if phases:
        table = grid("Phases of a usual step", "phase", "time", "share")
        for row in phases:
            table.add_row(row.name, duration(row.seconds), percent(row.share))
        yield table


def health_rows(statistics: RunStatistics) -> list[tuple[str, str | None]]:
    """Skipped steps, clipping, gradient norms, padding and samples that a task could not use."""
    skipped, clipping = statistics.skipped, statistics.clipping
    padding, fallbacks = statistics.padding, statistics.fallbacks
    at = ", ".join(f"{step:,}" for step in skipped.last_steps)
    clipped = f"{clipping.num_clipped:,} ({percent(clipping.share)})"
    return [
        ("skipped steps", f"{skipped.num_skipped:,}" + (f" (the last: {at})" if at else "")),
        ("clipped steps", None if clipping.share is None else clipped),
        ("gradient norm", spread(clipping.grad_norm, number)),
        ("clipping threshold", number(clipping.last_threshold)),
        ("padding", f"{percent(padding.mean)} of the positions" if padding else None),
        ("fallbacks", f"{percent(fallbacks.share)} of the samples" if fallbacks else None),
    ]
