"""The numbers of a run: what `stats.json` holds and the terminal's tables show.

Each section is a record of its own module; `plain.as_plain` makes of them what is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.columns import Summary, summary
from kl3m_embeddings.report.statistics.embedding_tasks import (
    EmbeddingTaskStatistics,
    embedding_tasks,
)
from kl3m_embeddings.report.statistics.evaluations import EvalStatistics, eval_statistics
from kl3m_embeddings.report.statistics.losses import (
    LossOfName,
    LossStatistics,
    LossWindow,
    MixedLossWindow,
    loss_by,
    loss_by_task,
    loss_by_window,
    loss_statistics,
    reducing_steps,
)
from kl3m_embeddings.report.statistics.pair_metrics import (
    PairMetrics,
    find_sets,
    metrics_of_sets,
    without_pair_metrics,
)
from kl3m_embeddings.report.statistics.plain import LEFT_OUT
from kl3m_embeddings.report.statistics.progress import (
    LogStatistics,
    ProgressStatistics,
    StartStatistics,
    log_statistics,
    progress,
    start_statistics,
)
from kl3m_embeddings.report.statistics.quality import (
    ProbeStatistics,
    SvdAndQuality,
    probe_statistics,
    svd_and_quality,
)
from kl3m_embeddings.report.statistics.scores import BenchmarkStatistics, score_statistics
from kl3m_embeddings.report.statistics.spectra import SpectrumStatistics, spectra_statistics
from kl3m_embeddings.report.statistics.steps import (
    ClippingStatistics,
    DatasetStatistics,
    FallbackStatistics,
    PhaseTime,
    SkippedSteps,
    SpeedStatistics,
    clipping,
    datasets,
    fallbacks,
    phases,
    skipped,
    speed,
)
from kl3m_embeddings.report.statistics.warnings import find_warnings

WINDOWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class RunStatistics:
    """All statistics of a run; None, or nothing in a list, where its files do not say."""

    name: str
    notes: list[str]
    run: StartStatistics
    log: LogStatistics
    progress: ProgressStatistics
    loss: LossStatistics
    """Over all steps; where losses are mixed, over none."""
    loss_by_window: list[LossWindow] | list[MixedLossWindow]
    loss_by_task: Sequence[LossOfName]
    loss_by_reduced_dim: list[LossOfName]
    eval: EvalStatistics | None
    speed: SpeedStatistics
    phases: list[PhaseTime]
    padding: Summary | None
    """The share of positions that are padding."""
    clipping: ClippingStatistics
    skipped: SkippedSteps
    fallbacks: FallbackStatistics | None
    datasets: list[DatasetStatistics]
    embedding_tasks: list[EmbeddingTaskStatistics] = field(default_factory=list, metadata=LEFT_OUT)
    pair_metrics: list[PairMetrics] = field(default_factory=list, metadata=LEFT_OUT)
    probes: list[ProbeStatistics] = field(default_factory=list, metadata=LEFT_OUT)
    svd_and_quality: SvdAndQuality | None = field(default=None, metadata=LEFT_OUT)
    benchmark: BenchmarkStatistics | None = field(default=None, metadata=LEFT_OUT)
    spectra: list[SpectrumStatistics] = field(default_factory=list, metadata=LEFT_OUT)
    warnings: list[str]


def describe_run(run: Run, window: int | None = None) -> RunStatistics:
    """All statistics of `run`; `window` steps make a moving average (None: by the run's length)."""
    window = window or default_window(run.steps.height)
    # Averages over tasks whose losses are of different scales say nothing.
    joint = run.steps.clear() if run.mixes_losses else run.steps
    skipped_steps = skipped(run.steps)
    benchmark = score_statistics(run.benchmark.scores)
    return RunStatistics(
        name=run.name,
        notes=run.notes,
        run=start_statistics(run),
        log=log_statistics(run),
        progress=progress(run),
        loss=loss_statistics(joint, window),
        loss_by_window=loss_by_window(run),
        loss_by_task=loss_by_task(run, window),
        loss_by_reduced_dim=loss_by(reducing_steps(run), "reduced_dim"),
        eval=eval_statistics(without_pair_metrics(run.evals)),
        speed=speed(run),
        phases=phases(run.steps),
        padding=summary(run.steps["padding_fraction"]),
        clipping=clipping(run.steps),
        skipped=skipped_steps,
        fallbacks=fallbacks(run.steps),
        datasets=datasets(run),
        embedding_tasks=embedding_tasks(run) if run.embedding_tasks else [],
        pair_metrics=metrics_of_sets(find_sets(run.evals)),
        probes=probe_statistics(run.evals),
        svd_and_quality=svd_and_quality(run),
        benchmark=benchmark,
        spectra=spectra_statistics(run.benchmark.spectra),
        warnings=find_warnings(run, skipped_steps, benchmark.failed if benchmark else []),
    )


def default_window(num_steps: int) -> int:
    """The moving average's window: the largest of WINDOWS that is at most 5% of the run."""
    return max(window for window in WINDOWS if window == 1 or 20 * window <= num_steps)
