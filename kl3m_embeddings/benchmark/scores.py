"""scores.jsonl: one row a score, for reports and for people; scores.csv: the same as a table.

A row's key is model, step, revision, task, split, subset and variant; a new row replaces the old
one of its key. Rows of the same model at the same step but of other weights are stale, and dropped;
so are rows of the same task over other texts. A difference goes when the other model's score does.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kl3m_embeddings.files.json_lines import read_records, write_lines
from kl3m_embeddings.files.whole import write_whole

SCORES = "scores.jsonl"
TABLE = "scores.csv"
REMEDY = "move the file away; results/ has what was scored, and it is not scored again"
ROUNDED = 1e-6  # mteb's results have six digits
# What a spreadsheet would take for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A row; see the module. `low` and `high` bound its 95% bootstrap interval.

    The report reads it into a record of its own, of the same fields but for the two revisions.
    """

    model: str
    revision: str
    step: int | None
    baseline: bool
    task: str
    task_revision: str = ""
    """Of its data: a local task's hash, or the commit on the hub."""
    type: str
    split: str
    subset: str
    metric: str
    score: float | None
    dim: int
    full_dim: int
    dtype: str
    control: bool
    low: float | None = None
    high: float | None = None
    num_items: int | None = None
    compared_with: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    time_s: float | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What the score is of."""
        variant = (self.dim, self.dtype, self.control)
        return (self.model, self.step, self.revision, *self.asked, *variant)

    @property
    def asked(self) -> tuple[str, str, str]:
        """What a model was asked."""
        return (self.task, self.split, self.subset)

    @property
    def is_plain(self) -> bool:
        """Whether the vectors were as the model gives them."""
        return self.dim == self.full_dim and self.dtype == "float32" and not self.control

    def alone(self) -> "Score":
        """The row, compared with no other."""
        return replace(
            self, compared_with=None, difference=None, difference_low=None, difference_high=None
        )


def read_scores(folder: Path) -> list[Score]:
    """The rows of a folder; none if there is no file.

    Raises:
        DamagedError: A line is no row of scores.
    """
    path = folder / SCORES
    return read_records(path, Score, REMEDY)


def merged(old: Iterable[Score], new: Sequence[Score]) -> list[Score]:
    """Old and new rows, the new ones first in doubt; stale ones are dropped."""
    revisions = {(row.model, row.step): row.revision for row in new}
    data = {row.task: row.task_revision for row in new}
    kept = {
        row.key: row
        for row in old
        if revisions.get((row.model, row.step), row.revision) == row.revision
        and data.get(row.task, row.task_revision) == row.task_revision
    }
    # A task that failed has no sizes: its row goes once the task was asked again.
    redone = {(row.model, row.revision, row.task) for row in new}
    kept = {
        key: row
        for key, row in kept.items()
        if row.error is None or (row.model, row.revision, row.task) not in redone
    }
    rows = kept | {row.key: row for row in new}
    now: dict[Any, list[float]] = {}
    for row in rows.values():
        if row.is_plain and row.score is not None:
            now.setdefault((row.model, row.asked), []).append(row.score)
    made = {row.key for row in new}
    return [
        row if key in made or is_difference_right(row, now) else row.alone()
        for key, row in rows.items()
    ]


def is_difference_right(row: Score, now: Mapping[Any, Sequence[float]]) -> bool:
    """Whether the model that it was compared with still has the score, at some step."""
    if row.score is None or row.difference is None:
        return True
    other = row.score - row.difference
    return any(
        abs(score - other) < ROUNDED for score in now.get((row.compared_with, row.asked), ())
    )


def write_scores(folder: Path, rows: Sequence[Score]) -> None:
    """Write both files; a reader never sees half of one."""
    fields = [asdict(row) for row in rows]
    write_lines(folder / SCORES, fields)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(Score.__dataclass_fields__))
    writer.writeheader()
    writer.writerows({key: as_cell(value) for key, value in row.items()} for row in fields)
    write_whole(folder / TABLE, table.getvalue())


def as_cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
