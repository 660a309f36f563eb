"""Scores as a table for the terminal: tasks as rows, models as columns."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from kl3m_embeddings.benchmark.scores import Score

FAILED = "failed"


def score_table(rows: Sequence[Score]) -> Table:
    """Main scores of the vectors as they are, each with its interval, the best of a row bold."""
    plain = [row for row in rows if row.is_plain or row.error is not None]
    names = list(dict.fromkeys((row.model, row.step) for row in plain))
    table = Table(title="Main score, 95% interval below", title_justify="left")
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    for model, step in names:
        table.add_column(
            Text(model if step is None else f"{model} {step:,}"), justify="right", overflow="fold"
        )
    for task, split, subset, metric in dict.fromkeys(
        (row.task, row.split, row.subset, row.metric) for row in plain if row.score is not None
    ):
        cells = {
            (row.model, row.step): row
            for row in plain
            if (row.task, row.split, row.subset) == (task, split, subset)
        }
        best = max((row.score for row in cells.values() if row.score is not None), default=None)
        name = task if subset == "default" else f"{task} {subset}"
        shown = [cell(cells.get(one), best) for one in names]
        table.add_row(Text(name), Text(metric), *shown)
    return table


def cell(row: Score | None, best: float | None) -> Text:
    """A score and its interval."""
    if row is None or row.score is None:
        return Text("")
    text = Text(f"{row.score:.4f}", style="bold" if row.score == best else "")
    if row.low is not None:
        text.append(f"\n{row.low:.3f}-{row.high:.3f}", style="dim")
    return text
