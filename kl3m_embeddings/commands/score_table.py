"""Scores as a table for the terminal: tasks as rows, models as columns."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from kl3m_embeddings.benchmark.scores import Score
from kl3m_embeddings.commands.plain_table import plain_table

INTERVAL_CHARS = len(".497-.561")

MODELS_PER_TABLE = 5
"""As many as fit into 80 characters."""


def score_tables(rows: Sequence[Score]) -> Iterator[Table]:
    """Main scores of the vectors as they are, each with its interval, the best of a row bold."""
    plain = [row for row in rows if row.is_plain or row.error is not None]
    names = list(dict.fromkeys((row.model, row.step) for row in plain))
    for start in range(0, len(names), MODELS_PER_TABLE):
        yield score_table(plain, names[start : start + MODELS_PER_TABLE])


def score_table(rows: Sequence[Score], names: Sequence[tuple[str, int | None]]) -> Table:
    """The scores of models, by name and step; the best may be another one's."""
    table = plain_table("Main score, 95% interval below", "task", gap=2)
    for model, step in names:
        heading = Text(model) if step is None else Text(f"{model}\nstep {step:,}")
        table.add_column(heading, justify="right", overflow="fold", min_width=INTERVAL_CHARS)
    for task, split, subset, metric in dict.fromkeys(
        (row.task, row.split, row.subset, row.metric) for row in rows if row.score is not None
    ):
        cells = {
            (row.model, row.step): row
            for row in rows
            if row.score is not None and (row.task, row.split, row.subset) == (task, split, subset)
        }
        best = max(row.score for row in cells.values() if row.score is not None)
        label = Text(task if subset == "default" else f"{task} {subset}")
        label.append(f"\n{metric}", style="dim")
        table.add_row(label, *(cell(cells.get(one), best) for one in names))
    return table


def cell(row: Score | None, best: float) -> Text:
    """A score and its interval."""
    if row is None or row.score is None:
        return Text("")
    text = Text(f"{row.score:.4f}", style="bold" if row.score == best else "")
    if row.low is not None and row.high is not None:
        text.append(f"\n{bound(row.low)}-{bound(row.high)}", style="not bold dim")
    return text


def bound(value: float) -> str:
    """Three digits without the 0 before the point."""
    digits = f"{abs(value):.3f}".removeprefix("0")
    return f"-{digits}" if value < 0 else digits
