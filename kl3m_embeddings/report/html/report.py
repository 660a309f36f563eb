"""`report.html`: a run, or several compared, on one page that needs nothing else."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import RenderableType

from kl3m_embeddings.report.html.blocks import Block, Fact, HtmlTable, Page, Section, blocks_of
from kl3m_embeddings.report.html.images import picture
from kl3m_embeddings.report.html.neighbours import neighbour_blocks
from kl3m_embeddings.report.html.page import write_page
from kl3m_embeddings.report.html.record import configuration_tables, machine_tables
from kl3m_embeddings.report.names import NO_VALUE, count, counted, duration, number, percent
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.progress import ProgressStatistics
from kl3m_embeddings.report.statistics.run_statistics import RunStatistics
from kl3m_embeddings.report.statistics.scores import (
    BenchmarkStatistics,
    score_statistics,
    scores_of_runs,
)
from kl3m_embeddings.report.statistics.spectra import SpectrumStatistics
from kl3m_embeddings.report.tables.comparison import compare_metrics_table, compare_table
from kl3m_embeddings.report.tables.run_tables import SECTIONS
from kl3m_embeddings.report.tables.scores import score_tables
from kl3m_embeddings.report.tables.spectra import spectra_tables

FILE_NAME = "report.html"
MAX_TASKS, MAX_MODELS, MAX_MATRICES = 500, 24, 200
MAX_OPEN_ROWS = 24
# The sections with the plots and tables of each, in the order of the page.
TITLES = {
    "overview": "Overview",
    "loss": "Training loss",
    "evaluation": "Held-out evaluation",
    "scores": "Benchmark",
    "neighbours": "Nearest neighbours",
    "spectra": "Spectra",
    "data": "Data mix",
    "speed": "Speed and health",
    "configuration": "Configuration",
    "machine": "Starts, hardware, versions",
}
PLOTS = {
    "loss": ("loss_by_step", "learning_rate_loss", "loss_hist_by_task", "similarity_by_step"),
    "evaluation": ("tasks_by_step", "pair_metrics_by_step"),
    "scores": ("quality_by_dim",),
    "spectra": ("svd_metrics", "spectra"),
    "data": ("samples_by_dataset", "tokens_by_task"),
    "speed": ("step_time_components",),
}


def write_run_report(
    run: Run, statistics: RunStatistics, pngs: Sequence[Path], folder: Path
) -> Path:
    """Write the report of one run, beside its plots."""
    page = Page(
        title=statistics.name,
        subtitle=progress_line(statistics.progress),
        facts=[fact for fact in facts(statistics) if fact.value != NO_VALUE],
        warnings=statistics.warnings,
        notes=statistics.notes,
        sections=sections(run, statistics, pngs),
        share=statistics.progress.share,
    )
    return write_page(page, folder / FILE_NAME)


def progress_line(progress: ProgressStatistics) -> str:
    """`step 1,200 of 2,000 (60%), 3 min left`."""
    if progress.last_step is None:
        return "no step logged yet"
    line = f"step {progress.last_step:,}"
    if progress.share:
        line += f" of {progress.total_steps:,} ({percent(progress.share)})"
    return f"{line}, {duration(progress.eta_s)} left" if progress.eta_s else line


def facts(statistics: RunStatistics) -> Iterator[Fact]:
    """The numbers at the top of the page: losses, held-out pairs, scores, tokens and speed."""
    loss, progress, held_out = statistics.loss, statistics.progress, statistics.eval
    average = f"average of {counted(loss.window, 'step')}"
    yield Fact("training loss", number(loss.last_average), average)
    if held_out:
        at = f"at step {number(held_out.best_step)}"
        yield Fact("best held-out loss", number(held_out.best_mean), at)
    for one in statistics.pair_metrics[:2]:
        row = one.metrics[0]
        yield Fact(f"{one.name} {row.name}", number(row.best), "best, held-out pairs")
    benchmark = statistics.benchmark
    if benchmark and benchmark.means:
        mean = f"{benchmark.models[0].name}, {benchmark.means.num_tasks:,} tasks"
        yield Fact("mean benchmark score", f"{benchmark.means.scores[0]:.4f}", mean)
    yield Fact("tokens", count(progress.num_tokens), f"in {duration(progress.elapsed_s)}")
    yield Fact("tokens a second", count(statistics.speed.tokens_per_s), "by step time")


def sections(run: Run, statistics: RunStatistics, pngs: Sequence[Path]) -> list[Section]:
    """The sections that have any content."""
    own: dict[str, Callable[[], Iterable[Block]]] = {
        "scores": lambda: blocks_of(all_scores(statistics.benchmark)),
        "neighbours": lambda: neighbour_blocks(run.benchmark.queries),
        "spectra": lambda: spectra_blocks(statistics.spectra),
        "configuration": lambda: configuration_tables(run.starts),
        "machine": lambda: machine_tables(run.starts),
    }
    found = []
    for key, title in TITLES.items():
        pictures = [
            picture(path) for name in PLOTS.get(key, ()) for path in pngs if path.stem == name
        ]
        tables = own[key]() if key in own else blocks_of(SECTIONS[key](statistics))
        # the first plot says most, then the numbers; of scores, the numbers do
        num_before = 0 if key == "scores" else 1
        blocks = [*pictures[:num_before], *tables, *pictures[num_before:]]
        found.append(Section(key, title, blocks))
    return [section for section in found if section.blocks]


def spectra_blocks(rows: Sequence[SpectrumStatistics]) -> Iterator[Block]:
    """The tables of spectra; a long one is folded, as its plot says more."""
    for block in blocks_of(spectra_tables(rows, MAX_MATRICES)):
        if isinstance(block, HtmlTable):
            yield replace(block, folded=len(block.rows) > MAX_OPEN_ROWS)
        else:
            yield block


def all_scores(benchmark: BenchmarkStatistics | None) -> Iterator[RenderableType]:
    """The tables of scores, with room for all tasks and models."""
    return score_tables(benchmark, max_tasks=MAX_TASKS, max_models=MAX_MODELS, width=None)


def write_comparison_report(
    runs: Sequence[Run],
    all_statistics: Sequence[RunStatistics],
    missing: Sequence[str],
    pngs: Sequence[Path],
    folder: Path,
) -> Path:
    """Write the report that compares several runs; the statistics have their unique names."""
    names = [statistics.name for statistics in all_statistics]
    benchmark = score_statistics(scores_of_runs([run.benchmark for run in runs], names))
    tables = [compare_table(all_statistics), *compare_metrics_table(all_statistics)]
    found = [
        Section("runs", "Runs", list(blocks_of(tables))),
        Section("curves", "Over steps and tokens", [picture(path) for path in pngs]),
        Section("scores", TITLES["scores"], list(blocks_of(all_scores(benchmark)))),
    ]
    page = Page(
        title=f"{len(runs):,} runs compared",
        subtitle=", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else ""),
        facts=[],
        warnings=[f"{one.name}: {text}" for one in all_statistics for text in one.warnings],
        notes=[*(f"{one.name}: {text}" for one in all_statistics for text in one.notes), *missing],
        sections=[section for section in found if section.blocks],
    )
    return write_page(page, folder / FILE_NAME)
