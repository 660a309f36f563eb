"""Tables of runs whose tasks compare vectors: losses task by task, similarities, held-out pairs."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import count, number, percent, printable
from kl3m_embeddings.report.statistics.embedding_tasks import EmbeddingTaskStatistics
from kl3m_embeddings.report.statistics.losses import LossOfName, LossOfTask, MixedLossWindow
from kl3m_embeddings.report.statistics.pair_metrics import PairMetrics
from kl3m_embeddings.report.statistics.quality import ProbeStatistics
from kl3m_embeddings.report.tables.parts import MAX_NAMES, escaped, grid, with_rest

MAX_TASKS = 5  # of a table with a column for each


def task_losses_table(rows: Sequence[LossOfName]) -> Iterator[Table]:
    """First, last and lowest loss of each task, where no number is one of all."""
    known = [(row.name, row.loss) for row in rows if isinstance(row, LossOfTask) and row.loss]
    if not known:
        return
    table = grid(
        "Loss", "task", "first", "last", "last\naverage", "lowest\naverage", "\nat step",
        "over\nsteps",
    )  # fmt: skip
    for name, loss in known[:MAX_NAMES]:
        averages = (loss.last_average, loss.best_average, loss.best_average_step)
        values = (loss.first, loss.last, *averages, loss.window)
        table.add_row(Text(printable(name)), *map(number, values))
    yield with_rest(table, known)


def task_windows_table(windows: Sequence[MixedLossWindow]) -> Table:
    """Each task's mean loss along the run, in ten windows."""
    tasks = list(windows[0].mean_by_task)
    shown = [escaped(printable(task, 12)) for task in tasks[:MAX_TASKS]]
    table = grid("Loss by window", "steps", *shown, "gradient norm", "tokens/s")
    for row in windows:
        table.add_row(
            f"{row.first_step:,} to {row.last_step:,}",
            *(number(row.mean_by_task[task]) for task in tasks[:MAX_TASKS]),
            number(row.grad_norm),
            count(row.tokens_per_s),
        )
    return with_rest(table, tasks, MAX_TASKS)


def embedding_tasks_table(rows: Sequence[EmbeddingTaskStatistics]) -> Iterator[Table]:
    """How many pairs each task had, how well it tells them apart, and a learnt temperature."""
    if not rows:
        return
    is_learnt = any(row.last_temperature is not None for row in rows)
    table = grid(
        "Tasks that compare vectors", "task", "pairs", "clashes", "accuracy,\nfirst tenth",
        "\nlast tenth", *(["temperature,\nfirst tenth", "\nlast tenth"] if is_learnt else []),
    )  # fmt: skip
    for row in rows[:MAX_NAMES]:
        num_pairs, num_clashes = row.num_pairs, row.num_clashes
        temperatures = [number(row.first_temperature, 3), number(row.last_temperature, 3)]
        table.add_row(
            Text(printable(row.name)),
            count(num_pairs),
            percent(num_clashes / num_pairs if num_pairs else None),
            percent(row.first_accuracy),
            percent(row.last_accuracy),
            *(temperatures if is_learnt else []),
        )
    yield with_rest(table, rows)


def similarities_table(rows: Sequence[EmbeddingTaskStatistics]) -> Iterator[Table]:
    """Mean similarities of each kind of pairs, in the first and the last tenth of the run."""
    if not any(row.similarity for row in rows):
        return
    table = grid("Mean similarity", "task", "texts", "first tenth", "last tenth")
    table.columns[1].justify = "left"
    for row in rows[:MAX_NAMES]:
        name = printable(row.name)
        for kind, ends in row.similarity.items():
            table.add_row(Text(name), kind, number(ends.first, 3), number(ends.last, 3))
            name = ""
    yield with_rest(table, rows)


def pair_metrics_tables(sets: Sequence[PairMetrics]) -> Iterator[RenderableType]:
    """The metrics of each set of held-out pairs; at smaller sizes, that which counts most."""
    for one in sets[:MAX_NAMES]:
        name = escaped(printable(one.name))
        table = grid(f"Held-out pairs: {name}", counts_of(one), "first", "best", "at step", "last")
        shown = [row for row in one.metrics if row.dim is None or row.name == one.headline]
        for row in shown:
            table.add_row(
                row.name if row.dim is None else f"{row.name} at {row.dim}",
                *map(number, (row.first, row.best, row.best_step, row.last)),
                style="bold" if row.name == one.headline else "",
            )
        left_out = len(one.metrics) - len(shown)
        if left_out:
            table.caption = f"and {left_out:,} more at smaller dimensions in stats.json"
            table.caption_justify = "left"
        yield table
    if len(sets) > MAX_NAMES:
        yield Text(f"and {len(sets) - MAX_NAMES:,} more sets in stats.json")


def counts_of(one: PairMetrics) -> str:
    """`1,000 queries`, `5,000 documents` below it, or how many pairs."""
    counts = {"queries": one.num_queries, "documents": one.num_documents, "pairs": one.num_pairs}
    return "\n".join(f"{num:,} {noun}" for noun, num in counts.items() if num is not None)


def probes_table(rows: Sequence[ProbeStatistics]) -> Iterator[Table]:
    """The first, best and last score of each task that is evaluated along the run."""
    if not rows:
        return
    table = grid("Embedding quality along the run", "task", "first", "best", "at step", "last")
    for row in rows[:MAX_NAMES]:
        values = (row.first, row.best, row.best_step, row.last)
        table.add_row(Text(printable(row.name)), *map(number, values))
    yield with_rest(table, rows)
