"""`describe.py`: statistics and plots of a training log; several are compared; it can watch."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from kl3m_embeddings.commands import shell
from kl3m_embeddings.commands.terminal import stdout_lost
from kl3m_embeddings.errors import INTERRUPTED

DEFAULT_WATCH_S = 10.0
# A long log takes seconds to draw: the processor is left to the training for most of the time.
REST_PER_WORK = 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = with_seconds(arguments)

    def command() -> int:
        options = parser().parse_args(given)
        if options.watch is not None and scores_wanted(options):
            parser().error("--watch draws only: score first, without it")
        draw = draw_one if len(options.logs) == 1 else draw_several
        if options.watch is None:
            code = shell.run(lambda: score(options), debug=options.debug)
            draw(options)
            return code
        return watch(lambda: draw(options), options.logs, options.watch)

    return shell.run(command, debug="--debug" in given)


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    arguments = argparse.ArgumentParser(
        prog="describe.py",
        description="Statistics and plots of a training log. Several logs are compared.",
        allow_abbrev=False,
    )
    add = arguments.add_argument
    add("logs", nargs="+", type=Path, metavar="LOG", help="a log.jsonl, or the folder it is in")
    add(
        "--out", type=Path, metavar="DIR",
        help="where the PNGs and stats.* go (default: beside the log; comparison/ for several)",
    )  # fmt: skip
    add(
        "--watch", nargs="?", type=seconds, const=DEFAULT_WATCH_S, metavar="SECONDS",
        help=f"draw again whenever a log has grown, looking every {DEFAULT_WATCH_S:.0f} seconds; "
        "Ctrl-C ends it",
    )  # fmt: skip
    add(
        "--window", type=num_steps, metavar="N",
        help="steps in the moving average (default: by the length of the run)",
    )  # fmt: skip
    tasks = arguments.add_argument_group("benchmark scores, of the newest checkpoint")
    tasks.add_argument(
        "--mteb", default="", metavar="NAMES",
        help="score these tasks and benchmarks of MTEB, parted by commas",
    )  # fmt: skip
    tasks.add_argument(
        "--mteb-file", action="append", default=[], metavar="FILE",
        help="score those named in a file, one a line; `legalbench` ships",
    )  # fmt: skip
    tasks.add_argument(
        "--task", action="append", default=[], type=Path, metavar="DIR",
        help="score a task of plain files (docs/local-tasks.md)",
    )  # fmt: skip
    tasks.add_argument(
        "--baseline", action="append", default=[], metavar="MODEL",
        help="beside: bm25, random, or a model; what the run started from is there unasked",
    )  # fmt: skip
    tasks.add_argument(
        "--all-checkpoints", action="store_true", help="score all of them: a curve over steps"
    )
    add("--debug", action="store_true", help="show the trace of an error")
    return arguments


def seconds(text: str) -> float:
    """A time to wait, from 0.1 seconds to a day."""
    value = float(text)
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.1 to 86400 seconds")
    return value


def num_steps(text: str) -> int:
    """A number of steps, at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1 step")
    return value


def with_seconds(arguments: Sequence[str] | None) -> list[str]:
    """`arguments` with a time behind each `--watch`, so that a log may follow it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for position, (word, following) in enumerate(pairwise([*given, "."])):
        is_time = following.replace(".", "", 1).isdigit()
        if word == "--watch" and not is_time:
            given[position] = f"--watch={DEFAULT_WATCH_S}"
    return given


def scores_wanted(options: argparse.Namespace) -> bool:
    """Whether a task was named."""
    return bool(options.mteb or options.mteb_file or options.task)


def score(options: argparse.Namespace) -> int:
    """Score what was asked for, each run into its own folder."""
    if not scores_wanted(options):
        return 0
    from kl3m_embeddings.commands.scoring import run_benchmark, run_request

    code = 0
    for request in [run_request(log, options) for log in options.logs]:
        code = max(code, shell.run(partial(run_benchmark, request), debug=options.debug))
        if code == INTERRUPTED:
            break
    return code


def draw_one(options: argparse.Namespace) -> None:
    """Tables, `stats.txt`, `stats.json`, plots and `report.html` of one run."""
    from kl3m_embeddings.report.html.report import write_run_report
    from kl3m_embeddings.report.plots.all_plots import draw_all
    from kl3m_embeddings.report.read.run import read_run
    from kl3m_embeddings.report.statistics.run_statistics import describe_run
    from kl3m_embeddings.report.tables.output import show, write_statistics
    from kl3m_embeddings.report.tables.run_tables import render

    run = read_run(options.logs[0])
    folder = options.out or run.log.path.parent
    statistics = describe_run(run, options.window)
    pngs, missing = draw_all(run, statistics.loss.window, folder)
    statistics = replace(statistics, notes=[*statistics.notes, *missing])
    tables = list(render(statistics))
    report = write_run_report(run, statistics, pngs, folder)
    written = [*write_statistics(folder, tables, statistics), *pngs, report]
    show(tables, written, clear=options.watch is not None)


def draw_several(options: argparse.Namespace) -> None:
    """Tables, plots and `report.html` that compare several runs, and the statistics of each."""
    from kl3m_embeddings.report.html.report import write_comparison_report
    from kl3m_embeddings.report.plots.comparison import compare_plots
    from kl3m_embeddings.report.read.run import read_run
    from kl3m_embeddings.report.statistics.run_statistics import default_window, describe_run
    from kl3m_embeddings.report.tables.comparison import render_comparison, unique_names
    from kl3m_embeddings.report.tables.output import show, write_statistics

    runs = [read_run(path) for path in options.logs]
    names = unique_names([run.log.path for run in runs])
    window = options.window or default_window(max(run.steps.height for run in runs))
    statistics = [
        replace(describe_run(run, window), name=name) for run, name in zip(runs, names, strict=True)
    ]
    folder = options.out or Path("comparison")
    pngs, missing = compare_plots(runs, names, window, folder)
    tables = list(render_comparison(statistics, missing))
    report = write_comparison_report(runs, statistics, missing, pngs, folder)
    written = [*write_statistics(folder, tables, statistics), *pngs, report]
    show(tables, written, clear=options.watch is not None)


def watch(draw: Callable[[], None], logs: Sequence[Path], every_s: float) -> int:
    """Draw now and whenever a log has changed, until Ctrl-C (the way to end it, so it means 0).

    It ends, too, when nobody can read any more what it prints.
    """
    drawn = None
    try:
        while not stdout_lost():
            state = [fingerprint(log) for log in logs]
            started = time.monotonic()
            if drawn is None or (state != drawn and all(state)):
                draw()
                drawn = state
                print(f"watching, every {every_s:g} s; Ctrl-C ends", flush=True)
            took_s = time.monotonic() - started
            time.sleep(max(every_s, REST_PER_WORK * took_s))
        return 0
    except KeyboardInterrupt:
        print()
        return 0


def fingerprint(log: Path) -> list[tuple[int, int]]:
    """Size and time of a log and of what was measured; empty without a log (a run begins anew)."""
    from kl3m_embeddings.report.read.benchmark import FILES

    path = log / "log.jsonl" if log.is_dir() else log
    measured = [path.parent / name for name in ("eval.jsonl", *FILES)]
    files = [path, *measured] if path.exists() else []
    states = [file.stat() for file in files if file.exists()]
    return [(state.st_size, state.st_mtime_ns) for state in states]
