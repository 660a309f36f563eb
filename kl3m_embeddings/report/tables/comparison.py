"""Several runs against each other: the tables. Their plots are in `compare_plots`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import count, duration, number, printable
from kl3m_embeddings.report.statistics.pair_metrics import MetricStatistics
from kl3m_embeddings.report.statistics.run_statistics import RunStatistics
from kl3m_embeddings.report.tables.parts import MAX_NAMES, grid, note_lines, with_rest


def unique_names(logs: Sequence[Path]) -> list[str]:
    """The folder of each log; where two are equal, with as many parents as tell them apart.

    A log that is not called log.jsonl is named too.
    """
    parts = [log.resolve().parts for log in logs]
    parts = [part[:-1] if part[-1] == "log.jsonl" else part for part in parts]
    depths = [1 if log.name == "log.jsonl" else 2 for log in logs]
    names = ["/".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
    for longer in range(1, max(map(len, parts))):
        times = Counter(names)
        names = [
            name if times[name] == 1 else "/".join(part[-depth - longer :])
            for name, part, depth in zip(names, parts, depths, strict=True)
        ]
    return [printable(name) for name in names]


def render_comparison(
    all_statistics: Sequence[RunStatistics], notes: Sequence[str]
) -> Iterator[RenderableType]:
    """The table, and what there is to say of each run and of the plots."""
    yield compare_table(all_statistics)
    yield from compare_metrics_table(all_statistics)
    for statistics in all_statistics:
        yield from note_lines(f"{statistics.name}: {note}" for note in statistics.notes)
    yield from note_lines(notes)


def compare_table(all_statistics: Sequence[RunStatistics]) -> Table:
    """One row a run, the best evaluation in bold."""
    table = grid(
        "Runs compared", "run", "steps", "tokens", "held-out\nbest", "\nat step",
        "training\naverage", "tokens\n/s", "time", "skips",
    )  # fmt: skip
    best_means = [
        statistics.eval.best_mean if statistics.eval else None for statistics in all_statistics
    ]
    lowest = min((mean for mean in best_means if mean is not None), default=None)
    for statistics, mean in zip(all_statistics, best_means, strict=True):
        table.add_row(
            Text(statistics.name),
            number(statistics.progress.num_steps),
            count(statistics.progress.num_tokens),
            Text(number(mean), style="bold" if mean == lowest else ""),
            number(statistics.eval.best_step if statistics.eval else None),
            number(statistics.loss.last_average),
            count(statistics.speed.tokens_per_s),
            duration(statistics.progress.elapsed_s),
            number(statistics.skipped.num_skipped),
        )
    return table


def compare_metrics_table(all_statistics: Sequence[RunStatistics]) -> Iterator[RenderableType]:
    """What counts most of each set of held-out pairs: one row a run, the best one in bold."""
    rows: dict[tuple[str, str], list[tuple[str, MetricStatistics]]] = {}
    for statistics in all_statistics:
        for one in statistics.pair_metrics:
            key = one.name, one.headline
            rows.setdefault(key, []).append((statistics.name, one.metrics[0]))
    if not rows:
        return
    table = grid("Held-out pairs compared", "set", "run", "first", "best", "at step", "last")
    table.columns[1].justify = "left"
    for (name, metric), runs in list(rows.items())[:MAX_NAMES]:
        shown = f"{printable(name, 13)} {metric}"
        highest = max(row.best for _, row in runs if row.best is not None)
        for run, row in runs:
            table.add_row(
                Text(shown),
                Text(run, style="bold" if row.best == highest else ""),
                *map(number, (row.first, row.best, row.best_step, row.last)),
            )
            shown = ""
    yield with_rest(table, list(rows))
