"""Tables of scores: models beside each other, their differences, and what failed.

A terminal of 80 characters has room for each interval as a whole: names fold, and models that do
not fit beside each other go on in a further table.
"""

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import NO_VALUE, counted, printable
from kl3m_embeddings.report.statistics.scores import (
    BenchmarkStatistics,
    FailedTask,
    ScoreCell,
    ScoredModel,
)
from kl3m_embeddings.report.tables.parts import (
    COLUMN_GAP,
    FOLDED_LENGTH,
    MAX_NAMES,
    escaped,
    fold_names,
    grid,
    with_rest,
)

MAX_MODELS = 4  # of a run's tables
WIDTH = 80
TASK_WIDTH = 16  # of the task's name at least, before it folds
BEST, BETTER, WORSE, ASIDE = "bold", "bold green", "bold red", "dim"
MAX_COMPARED = 4


def score_tables(
    benchmark: BenchmarkStatistics | None,
    *,
    max_tasks: int | None = MAX_NAMES,
    max_models: int | None = MAX_MODELS,
    width: int | None = WIDTH,
) -> Iterator[Table]:
    """All tables of what `score_statistics` returns, as far as there is anything in them.

    Args:
        benchmark: models, and their scores.
        max_tasks: rows of a table; None: all.
        max_models: how many of the models are shown; None: all.
        width: the characters of a line; None: as many as all models need beside each other.
    """
    if benchmark is None:
        return
    shown = list(range(len(benchmark.models)))[:max_models]
    if benchmark.tasks:
        yield from scores_tables(benchmark, shown, max_tasks, width)
    yield from difference_tables(benchmark, shown, max_tasks, width)
    yield from failures_table(benchmark.failed, max_tasks)


def scores_tables(
    benchmark: BenchmarkStatistics, shown: Sequence[int], max_tasks: int | None, width: int | None
) -> Iterator[Table]:
    """A row a task: each model's score and its interval, the best one in bold.

    `shown` are the positions of the models.
    """
    names, rows = [], []
    for task in benchmark.tasks[:max_tasks]:
        best = best_of([cell.score if cell else None for cell in task.scores])
        names.append(named(task.name, task.metric))
        rows.append([score_cell(task.scores[index], best) for index in shown])
    if benchmark.means:
        means = benchmark.means.scores
        best = best_of(means)
        names.append(Text(f"mean of {benchmark.means.num_tasks:,} tasks"))
        rows.append([marked(means[index], best) for index in shown])
    heads = [model_head(benchmark.models[index]) for index in shown]
    hidden = len(benchmark.models) - len(shown)
    note = f"and {counted(hidden, 'model')} more in stats.json" if hidden else ""
    title = "Benchmark scores, 95% intervals below"
    for table in beside_each_other(title, heads, names, rows, width):
        yield with_notes(table, benchmark.tasks, max_tasks, note)


def beside_each_other(
    title: str,
    heads: Sequence[Text],
    names: Sequence[Text],
    rows: Sequence[Sequence[Text]],
    width: int | None,
) -> Iterator[Table]:
    """Tables with a column for each model, each with as many columns as fit into `width`."""
    cell_width = longest_line(cell for row in rows for cell in row)
    num_beside = len(heads)
    if width is not None:
        num_beside = max(1, (width - TASK_WIDTH) // (cell_width + COLUMN_GAP))
    for start in range(0, len(heads), num_beside):
        end = start + num_beside
        table = grid(title, "task")
        fold_names(table)
        for head in heads[start:end]:
            column_width = max(cell_width, longest_line([head]))
            if width is not None:  # fixed: rich would take from all columns, numbers or not
                room = (width - TASK_WIDTH) // len(heads[start:end]) - COLUMN_GAP
                column_width = min(column_width, max(cell_width, room))
            table.add_column(head, justify="right", overflow="fold", width=column_width)
        for name, cells in zip(names, rows, strict=True):
            table.add_row(name, *cells[start:end])
        yield table


def longest_line(texts: Iterable[Text]) -> int:
    """How many characters the longest line has."""
    return max(len(line) for text in texts for line in text.plain.splitlines())


def with_notes(table: Table, rows: Sequence[object], max_rows: int | None, note: str) -> Table:
    """`table` with a caption: how many rows it does not show, and a further note."""
    table = with_rest(table, rows, len(rows) if max_rows is None else max_rows)
    table.caption = "; ".join(str(part) for part in (table.caption, note) if part) or None
    table.caption_justify = "left"
    return table


def named(task: str, metric: str = "") -> Text:
    """A task's name, and its metric below it."""
    below = printable(metric, 20)
    return Text.assemble(printable(task, FOLDED_LENGTH), (f"\n{below}" if below else "", ASIDE))


def model_head(model: ScoredModel) -> Text:
    """A model's name, and its step below it."""
    step = "" if model.step is None else f"\nstep {model.step:,}"
    return Text(printable(model.name, FOLDED_LENGTH) + step)


def best_of(values: Sequence[float | None]) -> float | None:
    """The highest, if there is another to be higher than."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) > 1 else None


def score_cell(cell: ScoreCell | None, best: float | None) -> Text:
    """A score with its interval below it."""
    if cell is None:
        return Text(NO_VALUE)
    return marked(cell.score, best).append_text(interval(cell.low, cell.high))


def marked(value: float, best: float | None) -> Text:
    """A score, in bold if it is the best."""
    return Text.assemble((score_text(value), BEST if value == best else ""))


def score_text(value: float, sign: str = "") -> str:
    """A score (or, with `sign` "+", a difference) in as many decimals as the others."""
    return f"{value:{sign}.4f}" if abs(value) < 10 else f"{value:{sign}.4g}"


def interval(low: float | None, high: float | None) -> Text:
    """`.610 to .640` as a second line, if it is known."""
    if low is None or high is None:
        return Text()
    return Text.assemble((f"\n{bound(low)} to {bound(high)}", ASIDE))


def bound(value: float) -> str:
    """Three decimals, without the 0 before the point: an interval is to fit below its score."""
    if abs(value) >= 10:
        return score_text(value)
    digits = f"{abs(value):.3f}".removeprefix("0")
    return f"-{digits}" if value < 0 and digits != ".000" else digits


def difference_tables(
    benchmark: BenchmarkStatistics, shown: Sequence[int], max_tasks: int | None, width: int | None
) -> Iterator[Table]:
    """The differences to each model that others were compared with.

    `shown` are the positions of the models.
    """
    cells = [cell for task in benchmark.tasks for cell in task.scores]
    others = dict.fromkeys(cell.compared_with for cell in cells if cell and is_compared(cell))
    for other in list(others)[:MAX_COMPARED]:
        rows = [
            (task.name, [cell if is_compared(cell, other) else None for cell in task.scores])
            for task in benchmark.tasks
        ]
        rows = [(name, row) for name, row in rows if any(row)]
        compared = [index for index in shown if any(row[index] for _, row in rows)]
        if not compared:
            continue
        for table in beside_each_other(
            f"Difference to {escaped(printable(other, 60))}",
            [model_head(benchmark.models[index]) for index in compared],
            [named(name) for name, _ in rows[:max_tasks]],
            [[difference_cell(row[index]) for index in compared] for _, row in rows[:max_tasks]],
            width,
        ):
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
    return Text.assemble((shown, style)).append_text(interval(low, high))


def failures_table(failed: Sequence[FailedTask], max_tasks: int | None) -> Iterator[Table]:
    """The tasks without a score, and why."""
    if not failed:
        return
    table = grid("Benchmark tasks that failed", "task", "model", "error")
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "left", False
    for row in failed[:max_tasks]:
        table.add_row(*(Text(printable(text, 300)) for text in (row.task, row.model, row.error)))
    yield with_notes(table, failed, max_tasks, "")
