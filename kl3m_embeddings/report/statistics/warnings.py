"""What went wrong in a run or looks like it: said first in the report, last in the terminal."""

from collections.abc import Iterator, Sequence

import polars as pl

from kl3m_embeddings.report.names import counted, number, percent, printable
from kl3m_embeddings.report.read.benchmark import newest
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.pair_metrics import find_sets
from kl3m_embeddings.report.statistics.quality import RATIO, probe_series
from kl3m_embeddings.report.statistics.scores import FailedTask
from kl3m_embeddings.report.statistics.steps import SkippedSteps

MAX_STEPS_NAMED = 5
# A spike is as far above the median of the hundred losses in the block before as eight times their
# 95th percentile (13 standard deviations, were they normal), and a tenth of the median at least.
# Blocks, as medians over each step's own window would take two seconds in a log of two million.
SPIKE_BLOCK, SPIKE_SPREADS, SPIKE_SHARE = 100, 8.0, 0.1
# A healthy pre-training run goes from 1.5 to 2.4 in 2,800 steps, a tenth in its last quarter.
STRONG_RISE, STRONG_RECENT_RISE, MIN_RATIOS = 3.0, 1.5, 4
MIN_EVALS = 6
SAME_DIRECTION = 0.8  # mean cosine of embeddings of different texts


def find_warnings(run: Run, skipped: SkippedSteps, failed: Sequence[FailedTask]) -> list[str]:
    """All warnings, the gravest kind first."""
    return [
        *skipped_steps(run, skipped),
        *loss_spikes(run),
        *collapsing_weights(run),
        *collapsed_embeddings(run),
        *stalled_evaluations(run),
        *failed_tasks(failed),
    ]


def skipped_steps(run: Run, skipped: SkippedSteps) -> Iterator[str]:
    """Steps without an update."""
    if skipped.num_skipped:
        yield (
            f"{counted(skipped.num_skipped, 'step')} of {run.steps.height:,} "
            f"({percent(skipped.share)}) skipped, as loss or gradient was not finite; "
            f"{steps_named(skipped.last_steps, skipped.num_skipped)}"
        )


def steps_named(steps: list[int], num_steps: int) -> str:
    """`at step 7, 12`; `lately at step`, if there are more."""
    shown = ", ".join(f"{step:,}" for step in steps[-MAX_STEPS_NAMED:])
    return f"{'at' if num_steps <= MAX_STEPS_NAMED else 'lately at'} step {shown}"


def loss_spikes(run: Run) -> Iterator[str]:
    """Steps whose loss is far above those before it, task by task."""
    block = (pl.int_range(pl.len()).over("task") // SPIKE_BLOCK).cast(pl.Int64)
    losses = run.steps.select("step", "task", "loss").drop_nulls("loss").with_columns(block=block)
    blocks = losses.group_by("task", block=pl.col("block") + 1).agg(
        usual=pl.col("loss").median(), high=pl.col("loss").quantile(0.95)
    )
    usual, high = pl.col("usual"), pl.col("high")
    limit = pl.max_horizontal(
        usual + SPIKE_SPREADS * (high - usual), (1 + SPIKE_SHARE) * usual.abs()
    )
    found = losses.join(blocks, on=["task", "block"], nulls_equal=True)
    spikes = found.filter(pl.col("loss") > limit).sort("step")
    if spikes.is_empty():
        return
    worst = spikes.sort(pl.col("loss") - pl.col("usual")).row(-1, named=True)
    where = steps_named(spikes["step"].to_list(), len(spikes))
    which = f", the worst at step {worst['step']:,}" if len(spikes) > 1 else ""
    yield (
        f"{counted(len(spikes), 'loss spike')} {where}{which}: {number(worst['loss'], 3)} after a "
        f"median of {number(worst['usual'], 3)}"
    )


def collapsing_weights(run: Run) -> Iterator[str]:
    """A steep rise of the largest singular value over the mean one."""
    if not run.has_eval(RATIO):
        return
    rows = run.evals.select("step", ratio=RATIO).drop_nulls()
    if len(rows) < MIN_RATIOS:
        return
    ratios = rows["ratio"].to_list()
    lowest, last, recent = min(ratios), ratios[-1], ratios[-1 - len(ratios) // 4]
    if last >= STRONG_RISE * lowest > 0 or last >= STRONG_RECENT_RISE * recent > 0:
        since = f"{number(recent, 3)} at step {rows['step'][-1 - len(ratios) // 4]:,}"
        yield (
            f"The weights concentrate on few directions: the largest singular value is "
            f"{number(last, 3)} times the mean one, after {since} and {number(lowest, 3)} at best"
        )


def collapsed_embeddings(run: Run) -> Iterator[str]:
    """The model's embeddings, as they are now, all point the same way."""
    for spectrum in newest(run.benchmark.own_spectra):
        cosine = spectrum.numbers.get("anisotropy")
        if spectrum.layer is None and cosine is not None and cosine > SAME_DIRECTION:
            at = "" if spectrum.step is None else f" at step {spectrum.step:,}"
            yield (
                f"The embeddings of {printable(spectrum.model)}{at} point the same way: the mean "
                f"cosine of different texts is {number(cosine, 3)}"
            )


def stalled_evaluations(run: Run) -> Iterator[str]:
    """Evaluations of which the later half did not improve on the earlier one."""
    if run.has_eval("mean"):
        losses = run.evals.select("step", value=-pl.col("mean")).drop_nulls()
        yield from stalled("held-out loss", losses, sign=-1)
    for one in find_sets(run.evals):
        name = f"{printable(one.name)} {one.headline.metric}"
        yield from stalled(name, one.headline.points)
    for name, points in probe_series(run.evals).items():
        yield from stalled(printable(name), points)


def stalled(name: str, points: pl.DataFrame, sign: int = 1) -> Iterator[str]:
    """Says so if no value of the later half is above the best of the earlier one."""
    half = len(points) // 2
    if len(points) < MIN_EVALS:
        return
    best, index = points["value"][:half].max(), points["value"][:half].arg_max()
    if best is not None and index is not None and points["value"][half:].max() <= best:  # type: ignore[operator]
        yield (
            f"No better {name} in the last {len(points) - half:,} of {len(points):,} evaluations: "
            f"the best is {number(sign * float(best), 3)} at step {points['step'][index]:,}"  # type: ignore[arg-type]
        )


def failed_tasks(failed: Sequence[FailedTask]) -> Iterator[str]:
    """Benchmark tasks without a score."""
    if failed:
        names = ", ".join(dict.fromkeys(printable(row.task) for row in failed[:MAX_STEPS_NAMED]))
        more = " and more" if len(failed) > MAX_STEPS_NAMED else ""
        yield f"{counted(len(failed), 'benchmark task')} failed: {names}{more}"
