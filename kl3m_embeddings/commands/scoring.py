"""Models scored on tasks, for `kl3m mteb` and `describe.py --mteb`."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from kl3m_embeddings.benchmark.request import (
    BenchmarkRequest,
    can_be_found,
    check_failures,
    checked_dtypes,
    chosen_candidates,
    chosen_tasks,
)
from kl3m_embeddings.benchmark.run import Benchmark
from kl3m_embeddings.benchmark.scores import SCORES, TABLE, Score
from kl3m_embeddings.benchmark.variants import DTYPES
from kl3m_embeddings.config.read import load_training
from kl3m_embeddings.errors import ConfigError, did_you_mean
from kl3m_embeddings.files.path_kind import why_not
from kl3m_embeddings.messages import say
from kl3m_embeddings.report.read.benchmark import read_scores
from kl3m_embeddings.report.statistics.scores import score_statistics
from kl3m_embeddings.report.tables.output import print_all
from kl3m_embeddings.report.tables.scores import score_tables


def run_benchmark(request: BenchmarkRequest) -> int:
    """Score, print the table, and return the exit code: not zero if a task has failed.

    Raises:
        ConfigError: something unknown was named.
        DataError: a local task cannot be read, or a task has failed; the others are saved.
        RetryError: the data of a task is not on this machine; the others are saved.
    """
    dtypes, tasks = checked_dtypes(request.dtypes), chosen_tasks(request)
    candidates = chosen_candidates(request)
    compare_with = request.compare_with or (candidates[0].name if request.baselines else None)
    known = {candidate.name for candidate in candidates}
    if compare_with is not None and compare_with not in known:
        raise ConfigError(
            f"--compare-with {compare_with}: not among the models"
            + did_you_mean(compare_with, known, ", ".join(sorted(known)))
        )
    total = sum(candidate.can(task) for candidate in candidates for task in tasks)
    with tqdm(total=total, unit="task") as bar:

        def begin(what: str) -> None:
            bar.update(bool(bar.desc))
            bar.set_description(what)

        benchmark = Benchmark(
            folder=request.folder,
            tasks=tasks,
            dims=request.dims,
            dtypes=dtypes,
            compare_with=compare_with,
            on_task=begin,
        )
        rows = benchmark.score(candidates)
        bar.update()
    print_scores(request.folder / SCORES, rows)
    for name in (SCORES, TABLE):
        say(f"{request.folder / name}")
    return check_failures(rows)


def print_scores(path: Path, rows: Sequence[Score]) -> None:
    """The tables of what has been scored just now, as the file has it; errors are told later."""
    asked = {(row.model, row.step, row.task) for row in rows if row.error is None}
    order = list(dict.fromkeys((row.model, row.step) for row in rows))
    scores = [one for one in read_scores(path)[0] if (one.model, one.step, one.task) in asked]
    scores.sort(key=lambda one: order.index((one.model, one.step)))  # as they were asked for
    scored = score_statistics(scores, every_step=True)
    print_all(score_tables(scored, max_tasks=None, max_models=None))


def run_request(log: Path, options: Namespace) -> BenchmarkRequest:
    """What `describe.py` asks for a run: its Matryoshka sizes, and what it started from beside.

    Raises:
        ConfigError: the log is not in a model folder.
    """
    folder = log if log.is_dir() else log.parent
    path = folder / "training.json"
    if why := why_not(path, "file"):
        raise ConfigError(f"{path}: {why}: scores are of a run's model; use kl3m mteb")
    training = load_training(path)
    chosen = training.tasks.embedding().values()
    dims = sorted({dim for one in chosen for dim in one.matryoshka_dims or ()})
    baselines = list(options.baseline)
    base = training.init_from
    if base is not None and base not in baselines and can_be_found(base):
        baselines.append(base)
    return BenchmarkRequest(
        models=[str(folder)],
        names=options.mteb,
        lists=options.mteb_file,
        folders=options.task,
        baselines=baselines,
        dims=dims,
        dtypes=[dtype for dtype in DTYPES if dims and dtype != "float32"],
        all_checkpoints=options.all_checkpoints,
    )
