"""Tables of scores: models beside each other, their differences, and what failed."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import NO_VALUE, counted, printable
from kl3m_embeddings.report.statistics.scores import (
    BenchmarkStatistics,
    FailedTask,
    ScoreCell,
    ScoredModel,
)
from kl3m_embeddings.report.tables.parts import MAX_NAMES, escaped, grid, with_rest

MAX_MODELS = 4  # of a table in the terminal
MODEL_LENGTH = 14
BEST, BETTER, WORSE, ASIDE = "bold", "bold green", "bold red", "dim"
MAX_COMPARED = 4


def score_tables(
    benchmark: BenchmarkStatistics | None,
    max_tasks: int = MAX_NAMES,
    max_models: int = MAX_MODELS,
    name_length: int = MODEL_LENGTH,
) -> Iterator[Table]:
    """All tables of what `score_statistics` returns, as far as there is anything in them."""
    if benchmark is None:
        return
    models = benchmark.models[:max_models]
    heads = [model_head(model, name_length) for model in models]
    if benchmark.tasks:
        table = scores_table(benchmark, heads, max_tasks)
        yield with_notes(table, benchmark.tasks, max_tasks, more_models(benchmark, heads))
    yield from difference_tables(benchmark, heads, max_tasks)
    yield from failures_table(benchmark.failed, max_tasks)


def with_notes(table: Table, rows: Sequence[object], max_rows: int, note: str) -> Table:
    """`table` with a caption: how many rows it does not show, and a further note."""
    table = with_rest(table, rows, max_rows)
    table.caption = "; ".join(str(part) for part in (table.caption, note) if part) or None
    table.caption_justify = "left"
    return table


def more_models(benchmark: BenchmarkStatistics, heads: Sequence[str]) -> str:
    """How many models the table does not show."""
    hidden = len(benchmark.models) - len(heads)
    return f"and {counted(hidden, 'model')} more in stats.json" if hidden else ""


def model_head(model: ScoredModel, length: int) -> str:
    """A model's name, and its step below it."""
    step = "" if model.step is None else f"\nstep {model.step:,}"
    return escaped(printable(model.name, length)) + step


def scores_table(benchmark: BenchmarkStatistics, heads: Sequence[str], max_tasks: int) -> Table:
    """A row a task: each model's score and its interval, the best one in bold."""
    table = grid("Benchmark scores", "task", *heads)
    for task in benchmark.tasks[:max_tasks]:
        best = best_of([cell.score if cell else None for cell in task.scores])
        cells = [score_cell(cell, best) for cell in task.scores[: len(heads)]]
        metric = printable(task.metric, 20)
        name = Text.assemble(printable(task.name), (f"\n{metric}" if metric else "", ASIDE))
        table.add_row(name, *cells)
    if benchmark.means:
        values = benchmark.means.scores
        best = best_of(values)
        cells = [
            Text(score_text(value), BEST if value == best else "") for value in values[: len(heads)]
        ]
        table.add_row(f"mean of {benchmark.means.num_tasks:,} tasks", *cells)
    return table


def best_of(values: Sequence[float | None]) -> float | None:
    """The highest, if there is another to be higher than."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def score_cell(cell: ScoreCell | None, best: float | None) -> Text:
    """A score with its interval below it."""
    if cell is None:
        return Text(NO_VALUE)
    style = BEST if cell.score == best else ""
    return Text.assemble((score_text(cell.score), style), *interval(cell.low, cell.high))


def score_text(value: float, sign: str = "") -> str:
    """A score (or, with `sign` "+", a difference) in as many decimals as the others."""
    return f"{value:{sign}.4f}" if abs(value) < 10 else f"{value:{sign}.4g}"


def interval(low: float | None, high: float | None) -> list[tuple[str, str]]:
    """`0.61 to 0.64` as a second line, if it is known."""
    if low is None or high is None:
        return []
    return [(f"\n{score_text(low)} to {score_text(high)}", ASIDE)]


def difference_tables(
    benchmark: BenchmarkStatistics, heads: Sequence[str], max_tasks: int
) -> Iterator[Table]:
    """One table for each model that others were compared with."""
    cells = [cell for task in benchmark.tasks for cell in task.scores if cell]
    others = dict.fromkeys(cell.compared_with for cell in cells if is_compared(cell))
    for other in list(others)[:MAX_COMPARED]:
        rows = [
            (task.name, [cell if is_compared(cell, other) else None for cell in task.scores])
            for task in benchmark.tasks
        ]
        places = [place for place in range(len(heads)) if any(row[place] for _, row in rows)]
        rows = [(name, row) for name, row in rows if any(row)]
        if not places:
            continue
        title = f"Difference to {escaped(printable(other, 60))}"
        table = grid(title, "task", *(heads[place] for place in places))
        for name, row in rows[:max_tasks]:
            table.add_row(Text(printable(name)), *(difference_cell(row[place]) for place in places))
        yield with_notes(table, rows, max_tasks, "* the 95% interval excludes 0")


def is_compared(cell: ScoreCell | None, other: str | None = None) -> bool:
    """Whether it has a difference (to `other`)."""
    return bool(
        cell
        and cell.difference is not None
        and cell.compared_with is not None
        and other in (None, cell.compared_with)
    )


def difference_cell(cell: ScoreCell | None) -> Text:
    """A difference with its interval; a star where the interval excludes 0."""
    if cell is None or cell.difference is None:
        return Text(NO_VALUE)
    low, high = cell.difference_low, cell.difference_high
    is_better, is_worse = low is not None and low > 0, high is not None and high < 0
    style = BETTER if is_better else WORSE if is_worse else ""
    shown = score_text(cell.difference, "+") + (" *" if style else "")
    return Text.assemble((shown, style), *interval(low, high))


def failures_table(failed: Sequence[FailedTask], max_tasks: int) -> Iterator[Table]:
    """The tasks without a score, and why."""
    if not failed:
        return
    table = grid("Benchmark tasks that failed", "task", "model", "error")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "left", False
    for row in failed[:max_tasks]:
        table.add_row(*(Text(printable(text, 300)) for text in (row.task, row.model, row.error)))
    yield with_rest(table, failed, max_tasks)
