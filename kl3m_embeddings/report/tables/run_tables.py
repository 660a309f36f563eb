"""The statistics of a run as rich tables, for the terminal and for `stats.txt`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import count, duration, number, percent, printable
from kl3m_embeddings.report.statistics.evaluations import EvalStatistics
from kl3m_embeddings.report.statistics.losses import (
    LossOfName,
    LossStatistics,
    LossWindow,
    MixedLossWindow,
)
from kl3m_embeddings.report.statistics.progress import ProgressStatistics, StartStatistics
from kl3m_embeddings.report.statistics.run_statistics import RunStatistics
from kl3m_embeddings.report.statistics.steps import DatasetStatistics
from kl3m_embeddings.report.tables.parts import (
    MAX_NAMES,
    grid,
    note_lines,
    pairs_table,
    warning_lines,
    with_rest,
)
from kl3m_embeddings.report.tables.scores import score_tables
from kl3m_embeddings.report.tables.spectra import spectra_tables
from kl3m_embeddings.report.tables.speed import speed_tables
from kl3m_embeddings.report.tables.tasks import (
    embedding_tasks_table,
    pair_metrics_tables,
    probes_table,
    similarities_table,
    task_losses_table,
    task_windows_table,
)


def render(statistics: RunStatistics) -> Iterator[RenderableType]:
    """The tables of one run, those without content left out."""
    yield Text(f"\n{statistics.name}", style="bold")
    for tables in SECTIONS.values():
        yield from tables(statistics)
    yield from warning_lines(statistics.warnings)
    yield from note_lines(statistics.notes)


def overview_tables(statistics: RunStatistics) -> Iterator[RenderableType]:
    """What ran where, and how far it is."""
    yield from pairs_table("Run", run_rows(statistics.run))
    yield from pairs_table("Progress", progress_rows(statistics.progress))


def loss_tables(statistics: RunStatistics) -> Iterator[RenderableType]:
    """The training loss, along the run and by what it was trained on."""
    yield from pairs_table("Loss", loss_rows(statistics.loss))
    yield from task_losses_table(statistics.loss_by_task)
    yield from windows_table(statistics.loss_by_window)
    yield from losses_table("Loss by task", "task", statistics.loss_by_task)
    yield from losses_table(
        "Loss by reduced dimension",
        "dimension",
        [
            replace(row, name="full" if row.name is None else f"{row.name:.0f}")
            for row in statistics.loss_by_reduced_dim
        ],
    )
    yield from embedding_tasks_table(statistics.embedding_tasks)
    yield from similarities_table(statistics.embedding_tasks)


def evaluation_tables(statistics: RunStatistics) -> Iterator[RenderableType]:
    """What was held out."""
    yield from eval_table(statistics.eval)
    yield from pair_metrics_tables(statistics.pair_metrics)
    yield from probes_table(statistics.probes)
    if related := statistics.svd_and_quality:
        yield Text(f"\n{related.sentence}")


SECTIONS: dict[str, Callable[[RunStatistics], Iterator[RenderableType]]] = {
    "overview": overview_tables,
    "loss": loss_tables,
    "evaluation": evaluation_tables,
    "scores": lambda statistics: score_tables(statistics.benchmark),
    "spectra": lambda statistics: spectra_tables(statistics.spectra),
    "speed": speed_tables,
    "data": lambda statistics: datasets_table(statistics.datasets),
}


def run_rows(run: StartStatistics) -> list[tuple[str, str | None]]:
    """Starts, command, hardware and versions."""
    resumed = [f"{step:,}" for step in run.resumed_at_steps]
    return [
        ("starts", number(run.num_starts) if run.num_starts else None),
        ("resumed at step", ", ".join(resumed[-MAX_NAMES:])),
        ("last start", one_line(run.time)),
        ("command", one_line(run.command)),
        ("hardware", one_line(run.hardware)),
        ("versions", one_line(run.versions)),
    ]


def one_line(value: object) -> str | None:
    """A recorded value as one line: a list joined, an object as `key value, key value`."""
    if isinstance(value, dict):
        value = ", ".join(
            f"{key} {number(item) if isinstance(item, float) else item}"
            for key, item in value.items()
            if item is not None
        )
    elif isinstance(value, list):
        value = " ".join(map(str, value))
    return None if value is None else printable(value, 300)


def progress_rows(progress: ProgressStatistics) -> list[tuple[str, str | None]]:
    """Where the run is, and when it will be done."""
    planned, lr = progress.total_steps, progress.lr
    of_total = f" of {planned:,} ({percent(progress.share)})" if progress.share else ""
    return [
        ("step", f"{number(progress.last_step)}{of_total}"),
        ("steps logged", number(progress.num_steps)),
        ("time so far", duration(progress.elapsed_s)),
        ("time left", duration(progress.eta_s or None)),
        ("last step at", progress.last_time),
        ("epoch", count(progress.epoch)),
        ("tokens", count(progress.num_tokens)),
        ("samples", count(progress.num_samples)),
        (
            "learning rate",
            None if lr is None else f"{number(lr)} (highest {number(progress.lr_max)})",
        ),
    ]


def loss_rows(loss: LossStatistics) -> list[tuple[str, str | None]]:
    """First, last and lowest loss, and its moving average."""
    average = f"average of {loss.window:,} steps"
    has_average = loss.window > 1 and loss.best_average is not None
    best = f"{number(loss.best_average)} at step {number(loss.best_average_step)}"
    return [
        ("first", number(loss.first)),
        ("last", number(loss.last)),
        (f"last {average}", number(loss.last_average) if has_average else None),
        (f"lowest {average}", best if has_average else None),
        *(
            (f"mean of the last {int(size):,} steps", number(mean))
            for size, mean in loss.mean_of_last.items()
            if int(size) != loss.window
        ),
    ]


def windows_table(windows: Sequence[LossWindow | MixedLossWindow]) -> Iterator[Table]:
    """The loss along the run, in ten windows."""
    mixed = [row for row in windows if isinstance(row, MixedLossWindow)]
    if mixed:
        yield task_windows_table(mixed)
    rows = [row for row in windows if isinstance(row, LossWindow)]
    if all(row.mean is None for row in rows):
        return
    table = grid(
        "Loss by window", "steps", "mean", "p5", "median", "p95", "gradient norm", "tokens/s"
    )
    for row in rows:
        table.add_row(
            f"{row.first_step:,} to {row.last_step:,}",
            *map(number, (row.mean, row.p5, row.median, row.p95, row.grad_norm)),
            count(row.tokens_per_s),
        )
    yield table


def losses_table(title: str, column: str, rows: Sequence[LossOfName]) -> Iterator[Table]:
    """The loss of the first and the last tenth of the run, by task or dimension."""
    if not rows:
        return
    table = grid(
        title, column, "steps", "share", "tokens", "first\ntenth", "last\ntenth", "\np5", "\np95",
        "\naccuracy", gap=2,
    )  # fmt: skip
    for row in rows[:MAX_NAMES]:
        table.add_row(
            Text(printable(row.name if row.name is not None else "(none)")),
            f"{row.num_steps:,}",
            percent(row.share),
            count(row.num_tokens),
            *map(number, (row.first_mean, row.last_mean, row.last_p5, row.last_p95)),
            percent(row.last_accuracy),
        )
    yield with_rest(table, rows)


def eval_table(evals: EvalStatistics | None) -> Iterator[Table]:
    """The first, best and last evaluation side by side."""
    if evals is None:
        return
    shown = evals.shown
    known = ("mean", "median", "std", "min", "p5", "p95", "max", "accuracy")
    keys = [key for key in known if any(row.get(key) is not None for row in shown.values())]
    keys += sorted(key for key in evals.last if key.startswith("svd_"))
    table = grid(f"Evaluation ({evals.num_evals:,} so far)", "", *shown)
    table.add_row("step", *(number(row["step"]) for row in shown.values()))
    for key in keys:
        table.add_row(printable(key), *(number(row.get(key)) for row in shown.values()))
    yield table


def datasets_table(rows: Sequence[DatasetStatistics]) -> Iterator[Table]:
    """Samples and tokens by dataset."""
    if rows:
        table = grid("Data mix", "dataset", "samples", "share", "tokens", "share")
        for row in rows[:MAX_NAMES]:
            table.add_row(
                Text(printable(row.name)),
                count(row.num_samples),
                percent(row.share_of_samples),
                count(row.num_tokens),
                percent(row.share_of_tokens),
            )
        yield with_rest(table, rows)
