"""The statistics of a run as rich tables, for the terminal and for `stats.txt`."""

from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import count, duration, number, percent, printable
from kl3m_embeddings.report.statistics.steps import Statistics
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


def render(statistics: Statistics) -> Iterator[RenderableType]:
    """The tables of one run, those without content left out."""
    yield Text(f"\n{statistics['name']}", style="bold")
    for tables in SECTIONS.values():
        yield from tables(statistics)
    yield from warning_lines(statistics["warnings"])
    yield from note_lines(statistics["notes"])


def overview_tables(statistics: Statistics) -> Iterator[RenderableType]:
    """What ran where, and how far it is."""
    yield from pairs_table("Run", run_rows(statistics["run"]))
    yield from pairs_table("Progress", progress_rows(statistics["progress"]))


def loss_tables(statistics: Statistics) -> Iterator[RenderableType]:
    """The training loss, along the run and by what it was trained on."""
    yield from pairs_table("Loss", loss_rows(statistics["loss"]))
    yield from task_losses_table(statistics["loss_by_task"])
    yield from windows_table(statistics["loss_by_window"])
    yield from losses_table("Loss by task", "task", statistics["loss_by_task"])
    yield from losses_table(
        "Loss by reduced dimension",
        "dimension",
        [
            {**row, "name": "full" if row["name"] is None else f"{row['name']:.0f}"}
            for row in statistics["loss_by_reduced_dim"]
        ],
    )
    yield from embedding_tasks_table(statistics.get("embedding_tasks", []))
    yield from similarities_table(statistics.get("embedding_tasks", []))


def evaluation_tables(statistics: Statistics) -> Iterator[RenderableType]:
    """What was held out."""
    yield from eval_table(statistics["eval"])
    yield from pair_metrics_tables(statistics.get("pair_metrics", []))
    yield from probes_table(statistics.get("probes", []))
    if related := statistics.get("svd_and_quality"):
        yield Text(f"\n{related['sentence']}")


SECTIONS: dict[str, Callable[[Statistics], Iterator[RenderableType]]] = {
    "overview": overview_tables,
    "loss": loss_tables,
    "evaluation": evaluation_tables,
    "scores": lambda statistics: score_tables(statistics.get("benchmark")),
    "spectra": lambda statistics: spectra_tables(statistics.get("spectra", [])),
    "speed": speed_tables,
    "data": lambda statistics: datasets_table(statistics["datasets"]),
}


def run_rows(run: Statistics) -> list[tuple[str, str | None]]:
    """Starts, command, hardware and versions."""
    resumed = [f"{step:,}" for step in run["resumed_at_steps"]]
    return [
        ("starts", number(run["num_starts"]) if run["num_starts"] else None),
        ("resumed at step", ", ".join(resumed[-MAX_NAMES:])),
        ("last start", one_line(run["time"])),
        ("command", one_line(run["command"])),
        ("hardware", one_line(run["hardware"])),
        ("versions", one_line(run["versions"])),
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


def progress_rows(progress: Statistics) -> list[tuple[str, str | None]]:
    """Where the run is, and when it will be done."""
    total = progress["total_steps"]
    of_total = f" of {total:,} ({percent(progress['share'])})" if progress["share"] else ""
    lr, peak = progress["lr"], progress["lr_max"]
    return [
        ("step", f"{number(progress['last_step'])}{of_total}"),
        ("steps logged", number(progress["num_steps"])),
        ("time so far", duration(progress["elapsed_s"])),
        ("time left", duration(progress["eta_s"] or None)),
        ("last step at", progress["last_time"]),
        ("epoch", count(progress["epoch"])),
        ("tokens", count(progress["num_tokens"])),
        ("samples", count(progress["num_samples"])),
        ("learning rate", None if lr is None else f"{number(lr)} (highest {number(peak)})"),
    ]


def loss_rows(loss: Statistics) -> list[tuple[str, str | None]]:
    """First, last and lowest loss, and its moving average."""
    average = f"average of {loss['window']:,} steps"
    has_average = loss["window"] > 1 and loss["best_average"] is not None
    best = f"{number(loss['best_average'])} at step {number(loss['best_average_step'])}"
    return [
        ("first", number(loss["first"])),
        ("last", number(loss["last"])),
        (f"last {average}", number(loss["last_average"]) if has_average else None),
        (f"lowest {average}", best if has_average else None),
        *(
            (f"mean of the last {int(size):,} steps", number(mean))
            for size, mean in loss["mean_of_last"].items()
            if int(size) != loss["window"]
        ),
    ]


def windows_table(windows: list[Statistics]) -> Iterator[Table]:
    """The loss along the run, in ten windows."""
    if windows and "mean_by_task" in windows[0]:
        yield task_windows_table(windows)
        return
    if all(row["mean"] is None for row in windows):
        return
    table = grid(
        "Loss by window", "steps", "mean", "p5", "median", "p95", "gradient norm", "tokens/s"
    )
    for row in windows:
        table.add_row(
            f"{row['first_step']:,} to {row['last_step']:,}",
            *(number(row[key]) for key in ("mean", "p5", "median", "p95", "grad_norm")),
            count(row["tokens_per_s"]),
        )
    yield table


def losses_table(title: str, column: str, rows: list[Statistics]) -> Iterator[Table]:
    """The loss of the first and the last tenth of the run, by task or dimension."""
    if not rows:
        return
    table = grid(
        title,
        column,
        "steps",
        "share",
        "tokens",
        "first tenth",
        "last tenth",
        "p5",
        "p95",
        "accuracy",
    )
    for row in rows[:MAX_NAMES]:
        table.add_row(
            Text(printable(row["name"] if row["name"] is not None else "(none)")),
            f"{row['num_steps']:,}",
            percent(row["share"]),
            count(row["num_tokens"]),
            *(number(row[key]) for key in ("first_mean", "last_mean", "last_p5", "last_p95")),
            percent(row["last_accuracy"]),
        )
    yield with_rest(table, rows)


def eval_table(evals: Statistics | None) -> Iterator[Table]:
    """The first, best and last evaluation side by side."""
    if evals is None:
        return
    shown = {name: evals[name] for name in ("first", "best", "last") if evals[name]}
    known = ("mean", "median", "std", "min", "p5", "p95", "max", "accuracy")
    keys = [key for key in known if any(row.get(key) is not None for row in shown.values())]
    keys += sorted(key for key in evals["last"] if key.startswith("svd_"))
    table = grid(f"Evaluation ({evals['num_evals']:,} so far)", "", *shown)
    table.add_row("step", *(f"{row['step']:,}" for row in shown.values()))
    for key in keys:
        table.add_row(printable(key), *(number(row.get(key)) for row in shown.values()))
    yield table


def datasets_table(rows: list[Statistics]) -> Iterator[Table]:
    """Samples and tokens by dataset."""
    if rows:
        table = grid("Data mix", "dataset", "samples", "share", "tokens", "share")
        for row in rows[:MAX_NAMES]:
            table.add_row(
                Text(printable(row["name"])),
                count(row["num_samples"]),
                percent(row["share_of_samples"]),
                count(row["num_tokens"]),
                percent(row["share_of_tokens"]),
            )
        yield with_rest(table, rows)
