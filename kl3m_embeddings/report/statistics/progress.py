"""How far a run is, how it was started, and what its log was read from."""

from dataclasses import dataclass

from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import last, mean, percentile, total
from kl3m_embeddings.report.statistics.plain import as_plain

NUM_RECENT = 1000


@dataclass(frozen=True, kw_only=True)
class StartStatistics:
    """Starts, and what the last one recorded: the fields of run.jsonl, as they stand there."""

    num_starts: int
    resumed_at_steps: list[int]
    time: object
    command: object
    hardware: object
    versions: object


@dataclass(frozen=True, kw_only=True)
class UnusedLine:
    """A line of the log, from 1, that could not be used, and why."""

    line: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LogStatistics:
    """How many lines the log has, and which could not be used (the first hundred).

    Overtaken lines are those of steps that were trained again after a resume.
    """

    num_lines: int
    num_bad_lines: int
    bad_lines: list[UnusedLine]
    last_line_incomplete: bool
    num_overtaken_lines: int


@dataclass(frozen=True, kw_only=True)
class ProgressStatistics:
    """How far the run is; `share` is of the planned steps, `eta_s` the time that is left."""

    num_steps: int
    first_step: int | None
    last_step: int | None
    total_steps: int | None
    share: float | None
    eta_s: float | None
    elapsed_s: float | None
    last_time: str | None
    """When the last step was logged."""
    epoch: float | None
    num_tokens: float | None
    num_samples: float | None
    lr: float | None
    lr_max: float | None


def start_statistics(run: Run) -> StartStatistics:
    """Starts, and what the last one recorded of command, hardware and versions."""
    newest = run.starts[-1] if run.starts else {}
    return StartStatistics(
        num_starts=len(run.starts),
        resumed_at_steps=run.resumes,
        **{key: as_plain(newest.get(key)) for key in ("time", "command", "hardware", "versions")},
    )


def log_statistics(run: Run) -> LogStatistics:
    """How many lines there were, and which could not be used."""
    lines = run.log.lines
    return LogStatistics(
        num_lines=lines.num_lines,
        num_bad_lines=lines.num_bad,
        bad_lines=[UnusedLine(line=bad.number, reason=bad.reason) for bad in lines.bad],
        last_line_incomplete=lines.torn,
        num_overtaken_lines=len(run.log.overtaken),
    )


def progress(run: Run) -> ProgressStatistics:
    """How far the run is, and when it will be done at the pace of the last steps."""
    steps, total_steps = run.steps, run.total_steps
    recent_s = mean(steps["step_time"].tail(NUM_RECENT))
    left = max(0, total_steps - run.num_done) if total_steps else None
    return ProgressStatistics(
        num_steps=steps.height,
        first_step=steps["step"][0] if len(steps) else None,
        last_step=steps["step"][-1] if len(steps) else None,
        total_steps=total_steps,
        share=run.num_done / total_steps if total_steps else None,
        eta_s=None if left is None or recent_s is None else left * recent_s,
        elapsed_s=last(steps["total_time"]) or total(steps["step_time"]),
        last_time=str(steps["time"].max()) if steps["time"].count() else None,
        epoch=last(steps["epoch"]),
        num_tokens=total(steps["num_tokens"]),
        num_samples=total(steps["num_samples"]),
        lr=last(steps["lr"]),
        lr_max=percentile(steps["lr"], 100),
    )
