"""The statistics of a run as rich tables, for the terminal and for `stats.txt`."""

from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kl3m_embeddings.report.names import NO_VALUE, count, duration, number, percent, printable
from kl3m_embeddings.report.score_tables import score_tables
from kl3m_embeddings.report.spectra_tables import spectra_tables
from kl3m_embeddings.report.step_statistics import Statistics
from kl3m_embeddings.report.table_parts import (
    MAX_NAMES,
    grid,
    note_lines,
    warning_lines,
    with_rest,
)
from kl3m_embeddings.report.task_tables import (
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


def speed_tables(statistics: Statistics) -> Iterator[RenderableType]:
    """How fast it runs, and how well."""
    yield from pairs_table("Speed", speed_rows(statistics["speed"]))
    yield from phases_table(statistics["phases"])
    yield from pairs_table("Health", health_rows(statistics))


SECTIONS: dict[str, Callable[[Statistics], Iterator[RenderableType]]] = {
    "overview": overview_tables,
    "loss": loss_tables,
    "evaluation": evaluation_tables,
    "scores": lambda statistics: score_tables(statistics.get("benchmark")),
    "spectra": lambda statistics: spectra_tables(statistics.get("spectra", [])),
    "speed": speed_tables,
    "data": lambda statistics: datasets_table(statistics["datasets"]),
}


def pairs_table(title: str, rows: list[tuple[str, str | None]]) -> Iterator[Table]:
    """A table of names and values; rows without a value are left out."""
    known = [(name, value) for name, value in rows if value and value != NO_VALUE]
    if known:
        table = Table(
            title=f"\n{title}",
            title_justify="left",
            title_style="bold",
            box=None,
            show_header=False,
        )
        for name, value in known:
            table.add_row(name, Text(value))
        yield table


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


def speed_rows(speed: Statistics) -> list[tuple[str, str | None]]:
    """Tokens a second, step times, memory and use of the device."""
    rate, mfu, memory_mb = speed["token_rate"], speed["mfu"], speed["device_mb_max"]
    return [
        ("tokens/s by step time", count(speed["tokens_per_s"])),
        (
            "tokens/s as logged",
            rate and f"last {count(rate['last'])}, median {count(rate['median'])}",
        ),
        ("step time", spread(speed["step_time_s"], duration)),
        ("device memory", None if memory_mb is None else f"{number(memory_mb)} MB at most"),
        ("use of the device (MFU)", mfu and percent(mfu["median"])),
    ]


def spread(summary: Statistics | None, shown: Callable[[float | int | None], str]) -> str | None:
    """Median, 95th percentile and maximum in one line."""
    if summary is None:
        return None
    median, p95, highest = (shown(summary[key]) for key in ("median", "p95", "max"))
    return f"median {median}, p95 {p95}, largest {highest}"


def phases_table(phases: list[Statistics]) -> Iterator[Table]:
    """The phases of a usual step; they add up to it."""
    if phases:
        table = grid("Phases of a usual step", "phase", "time", "share")
        for row in phases:
            table.add_row(row["name"], duration(row["seconds"]), percent(row["share"]))
        yield table


def health_rows(statistics: Statistics) -> list[tuple[str, str | None]]:
    """Skipped steps, clipping, gradient norms, padding and samples that a task could not use."""
    skipped, clipping, padding = (statistics[key] for key in ("skipped", "clipping", "padding"))
    fallbacks, share = statistics["fallbacks"], clipping["share"]
    at = ", ".join(f"{step:,}" for step in skipped["last_steps"])
    clipped = f"{clipping['num_clipped']:,} ({percent(share)})"
    return [
        ("skipped steps", f"{skipped['num_skipped']:,}" + (f" (the last: {at})" if at else "")),
        ("clipped steps", None if share is None else clipped),
        ("gradient norm", spread(clipping["grad_norm"], number)),
        ("clipping threshold", number(clipping["last_threshold"])),
        ("padding", padding and f"{percent(padding['mean'])} of the positions"),
        ("fallbacks", fallbacks and f"{percent(fallbacks['share'])} of the samples"),
    ]


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
