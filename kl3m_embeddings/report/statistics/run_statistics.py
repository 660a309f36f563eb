"""The numbers of a run: what `stats.json` holds and the terminal's tables show.

Every value is a plain number, text, list or dictionary, and None where the files do not say.
"""

import math

import polars as pl

from kl3m_embeddings.report.names import printable
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import last, mean, percentile, summary, total
from kl3m_embeddings.report.statistics.embedding_tasks import embedding_tasks
from kl3m_embeddings.report.statistics.losses import (
    loss_by,
    loss_by_task,
    loss_by_window,
    loss_statistics,
    reducing_steps,
)
from kl3m_embeddings.report.statistics.pair_metrics import (
    find_sets,
    metrics_of_sets,
    without_pair_metrics,
)
from kl3m_embeddings.report.statistics.quality import probe_statistics, svd_and_quality
from kl3m_embeddings.report.statistics.scores import score_statistics
from kl3m_embeddings.report.statistics.spectra import spectra_statistics
from kl3m_embeddings.report.statistics.steps import (
    Statistics,
    clipping,
    datasets,
    fallbacks,
    phases,
    skipped,
    speed,
)
from kl3m_embeddings.report.statistics.warnings import find_warnings

WINDOWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
NUM_RECENT = 1000


def describe_run(run: Run, window: int | None = None) -> Statistics:
    """All statistics of `run`; `window` steps make a moving average (None: by the run's length)."""
    window = window or default_window(run.steps.height)
    # Averages over tasks whose losses are of different scales say nothing.
    joint = run.steps.clear() if run.mixes_losses else run.steps
    statistics = {
        "name": run.name,
        "notes": run.notes,
        "run": run_statistics(run),
        "log": log_statistics(run),
        "progress": progress(run),
        "loss": loss_statistics(joint, window),
        "loss_by_window": loss_by_window(run),
        "loss_by_task": loss_by_task(run, window),
        "loss_by_reduced_dim": loss_by(reducing_steps(run), "reduced_dim"),
        "eval": eval_statistics(without_pair_metrics(run.evals)),
        "speed": speed(run.steps),
        "phases": phases(run.steps),
        "padding": summary(run.steps["padding_fraction"]),
        "clipping": clipping(run.steps),
        "skipped": skipped(run.steps),
        "fallbacks": fallbacks(run.steps),
        "datasets": datasets(run),
    }
    if run.embedding_tasks:
        statistics["embedding_tasks"] = embedding_tasks(run)
    if sets := find_sets(run.evals):
        statistics["pair_metrics"] = metrics_of_sets(sets)
    add_measured(statistics, run)
    statistics["warnings"] = find_warnings(run, statistics)
    return {key: plain(value) for key, value in statistics.items()}


def add_measured(statistics: Statistics, run: Run) -> None:
    """What was measured of the embeddings, as far as it was."""
    found = {
        "probes": probe_statistics(run.evals),
        "svd_and_quality": svd_and_quality(run),
        "benchmark": score_statistics(run.benchmark.scores),
        "spectra": spectra_statistics(run.benchmark.spectra),
    }
    statistics |= {name: value for name, value in found.items() if value}


def plain(value: object) -> object:
    """`value` as strict JSON can hold it, and a terminal show it."""
    match value:
        case dict():
            return {printable(key): plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case str():
            return printable(value, limit=1000)
        case float() if not math.isfinite(value):
            return None
    return value


def default_window(num_steps: int) -> int:
    """The moving average's window: the largest of WINDOWS that is at most 5% of the run."""
    return max(window for window in WINDOWS if window == 1 or 20 * window <= num_steps)


def run_statistics(run: Run) -> Statistics:
    """Starts, and what the last one recorded of command, hardware and versions."""
    last = run.starts[-1] if run.starts else {}
    return {
        "num_starts": len(run.starts),
        "resumed_at_steps": run.resumes,
        **{key: last.get(key) for key in ("time", "command", "hardware", "versions")},
    }


def log_statistics(run: Run) -> Statistics:
    """How many lines there were, and which could not be used."""
    lines = run.log.lines
    return {
        "num_lines": lines.num_lines,
        "num_bad_lines": lines.num_bad,
        "bad_lines": [{"line": bad.number, "reason": bad.reason} for bad in lines.bad],
        "last_line_incomplete": lines.torn,
        "num_overtaken_lines": len(run.log.overtaken),
    }


def progress(run: Run) -> Statistics:
    """How far the run is, and when it will be done at the pace of the last steps."""
    steps, total_steps = run.steps, run.total_steps
    recent_s = mean(steps["step_time"].tail(NUM_RECENT))
    left = max(0, total_steps - run.num_done) if total_steps else None
    return {
        "num_steps": steps.height,
        "first_step": steps["step"][0] if len(steps) else None,
        "last_step": steps["step"][-1] if len(steps) else None,
        "total_steps": total_steps,
        "share": run.num_done / total_steps if total_steps else None,
        "eta_s": None if left is None or recent_s is None else left * recent_s,
        "elapsed_s": last(steps["total_time"]) or total(steps["step_time"]),
        "last_time": str(steps["time"].max()) if steps["time"].count() else None,
        "epoch": last(steps["epoch"]),
        "num_tokens": total(steps["num_tokens"]),
        "num_samples": total(steps["num_samples"]),
        "lr": last(steps["lr"]),
        "lr_max": percentile(steps["lr"], 100),
    }


def eval_statistics(evals: pl.DataFrame) -> Statistics | None:
    """The first, the best (lowest mean) and the last evaluation."""
    if evals.is_empty():
        return None
    rows = evals.to_dicts()
    with_mean = [row for row in rows if row.get("mean") is not None]
    return {
        "num_evals": len(rows),
        "times": {
            part: total(evals[column])
            for part in ("eval", "text", "pairs", "tasks")
            if (column := f"{part}_time") in evals.columns
        },
        "first": rows[0],
        "best": min(with_mean, key=lambda row: row["mean"]) if with_mean else None,
        "last": rows[-1],
    }
