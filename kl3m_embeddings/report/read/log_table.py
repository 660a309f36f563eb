"""A training log as columns: one row a step, and the counts by dataset beside it.

1. The lines are read by columns (`jsonl.py`); a number that is not finite counts as missing.
2. The names in `samples_by_dataset` and `tokens_by_dataset` are not known beforehand, so these
   objects become long tables: line, name, count.
3. Where the step falls back (a run resumed from a checkpoint without cutting its log), the lines
   that were overtaken are dropped: a step counts once, as it was trained last.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from kl3m_embeddings.errors import DataError
from kl3m_embeddings.report.read.jsonl import Lines, Schema, read_columns

SINGLE = (
    "epoch", "reduced_dim", "num_fallback", "sample_time", "forward_time", "backward_time",
    "optimizer_time", "step_time", "clip_threshold", "grad_norm", "padding_fraction", "device_mb",
    "mfu", "accuracy", "temperature",
)  # fmt: skip
SIMILARITIES = (
    "mean_sim_positive", "mean_sim_negative", "mean_sim_same", "mean_sim_similar", "mean_sim_diff",
)  # fmt: skip
# what only tasks have that compare the vectors of texts
OF_EMBEDDING_TASKS = ("num_pairs", "num_clashes", *SIMILARITIES)
DOUBLE = (
    "lr", "loss", "total_time", "token_rate", "num_samples", "num_tokens", "peak_flops",
)  # fmt: skip
BY_DATASET = ("samples_by_dataset", "tokens_by_dataset")
SCHEMA: Schema = {
    "step": pl.Int64,
    **dict.fromkeys((*SINGLE, *OF_EMBEDDING_TASKS), pl.Float32),
    **dict.fromkeys(DOUBLE, pl.Float64),
    **dict.fromkeys(("task", "time", *BY_DATASET), pl.String),
    "skipped": pl.Boolean,
}


@dataclass(frozen=True)
class LogTable:
    """The steps of a run in order, and what was wrong with the lines they come from.

    `samples_by_dataset` and `tokens_by_dataset` have the columns line, name and count.
    """

    path: Path
    steps: pl.DataFrame
    samples_by_dataset: pl.DataFrame
    tokens_by_dataset: pl.DataFrame
    lines: Lines
    overtaken: tuple[int, ...]

    def has(self, *columns: str) -> bool:
        """Whether each of `columns` has a value in some row."""
        return all(self.steps[name].count() > 0 for name in columns)

    def notes(self) -> list[str]:
        """What the reader of the report must know about the log."""
        notes = self.lines.notes(self.path.name)
        if self.overtaken:
            notes.append(
                f"{self.path.name}: steps repeat or go backwards: {len(self.overtaken):,} "
                f"overtaken lines left out, from line {self.overtaken[0]} to {self.overtaken[-1]}"
            )
        return notes


def read_log(path: Path) -> LogTable:
    """Read a log. An empty one is fine; one without a single good line is an error."""
    lines = Lines()
    parts = [three_tables(pl.DataFrame(schema={**SCHEMA, "line": pl.UInt32}))]
    for frame, account in read_columns(path, SCHEMA):
        lines = account
        parts.append(three_tables(frame))
    steps, samples, tokens = (pl.concat(tables) for tables in zip(*parts, strict=True))
    if lines.bad and steps.is_empty():
        bad = lines.bad[0]
        raise DataError(
            f"{path}:{bad.number}: {bad.reason}; no line of {lines.num_lines:,} is one of a "
            "training log: pass the log.jsonl of a model folder"
        )
    # A log that does not say so skipped the steps without a loss, if there is any with one.
    has_no_loss = pl.col("loss").is_null() & pl.col("loss").is_not_null().any()
    steps = steps.with_columns(pl.col("skipped").fill_null(has_no_loss))
    return without_overtaken(path, steps, samples, tokens, lines)


def three_tables(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """The steps, the samples and the tokens by dataset, made at once on all cores."""
    rows = frame.lazy()
    return pl.collect_all([to_steps(rows), *(counts_by_name(rows, name) for name in BY_DATASET)])


def to_steps(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The scalar fields: finite numbers, tasks as categories, times to the second."""
    numbers = pl.col(*SINGLE, *OF_EMBEDDING_TASKS, *DOUBLE)
    return frame.select(
        "line",
        "step",
        pl.when(numbers.is_finite()).then(numbers),
        pl.col("task").cast(pl.Categorical),
        pl.col("time").str.head(19).str.to_datetime("%Y-%m-%dT%H:%M:%S", strict=False),
        "skipped",
    )


def counts_by_name(frame: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """The objects of `column` as one row for each of their entries: line, name, count.

    polars gives an object as text, `{"a": 12, "b": 3}`, its names not escaped. Splitting that text
    costs a third of what regular expressions do.
    """
    entries = pl.col(column).str.slice(2).str.strip_suffix("}").str.split(', "')
    parts = pl.col("entry").str.splitn('": ', 2).struct.rename_fields(["name", "count"])
    return (
        frame.select("line", entry=entries)
        .explode("entry")
        .select("line", parts)
        .unnest("entry")
        .with_columns(
            pl.col("name").cast(pl.Categorical), pl.col("count").cast(pl.Float64, strict=False)
        )
        .drop_nulls()
    )


def without_overtaken(
    path: Path, steps: pl.DataFrame, samples: pl.DataFrame, tokens: pl.DataFrame, lines: Lines
) -> LogTable:
    """Drop each row that is followed by one of the same or a smaller step."""
    smallest_after = pl.col("step").shift(-1).cum_min(reverse=True)
    is_kept = (pl.col("step") < smallest_after).fill_null(True)
    overtaken = steps.filter(~is_kept)["line"]
    if len(overtaken):
        steps = steps.filter(is_kept)
        samples, tokens = (
            table.filter(~pl.col("line").is_in(overtaken.implode())) for table in (samples, tokens)
        )
    return LogTable(path, steps, samples, tokens, lines, tuple(overtaken))
