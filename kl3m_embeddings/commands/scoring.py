"""Models scored on tasks, for `kl3m mteb` and `describe.py --mteb`."""

import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mteb.abstasks import AbsTask
from rich.console import Console
from tqdm import tqdm

from kl3m_embeddings.benchmark.candidates import (
    Candidate,
    LoadOptions,
    baseline_candidate,
    candidate_at,
)
from kl3m_embeddings.benchmark.local_tasks import local_task
from kl3m_embeddings.benchmark.named_tasks import named_tasks, read_task_list
from kl3m_embeddings.benchmark.run import NO_DATA, Benchmark
from kl3m_embeddings.benchmark.scores import SCORES, TABLE, Score
from kl3m_embeddings.benchmark.variants import DTYPES, Dtype
from kl3m_embeddings.commands.score_table import score_tables
from kl3m_embeddings.commands.shell import say, warn
from kl3m_embeddings.config.read import did_you_mean, load_training
from kl3m_embeddings.encoder.folder.model_paths import check_unique, is_run, model_paths
from kl3m_embeddings.encoder.hardware import pick_device
from kl3m_embeddings.encoder.text_encoder import Precision, read_text_files
from kl3m_embeddings.errors import ConfigError, DataError, RetryError, UserError
from kl3m_embeddings.local_tasks.folder import read_task
from kl3m_embeddings.run.model import initial_folder

FOLDER = "benchmark"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest:
    """What was asked for on the command line."""

    models: Sequence[str]
    names: str = ""
    """Tasks and benchmarks of mteb, parted by commas."""
    lists: Sequence[str] = ()
    """Files of such names."""
    folders: Sequence[Path] = ()
    """Local tasks."""
    baselines: Sequence[str] = ()
    compare_with: str | None = None
    dims: Sequence[int] = ()
    dtypes: Sequence[str] = ()
    all_checkpoints: bool = False
    out: Path | None = None
    device: str | None = None
    precision: Precision | None = None
    prompts: Mapping[str, str] | None = None

    @property
    def folder(self) -> Path:
        """Where results go: beside the run, or where the command was given."""
        first = Path(self.models[0])
        return self.out or (first / FOLDER if is_run(first) else Path(FOLDER))


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
            f"--compare-with {compare_with}: not among the models "
            f"({did_you_mean(compare_with, known) or ', '.join(sorted(known))})"
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
    for table in score_tables(rows):
        Console().print(table)
    for name in (SCORES, TABLE):
        say(f"{request.folder / name}")
    return check_failures(rows)


def chosen_tasks(request: BenchmarkRequest) -> list[AbsTask]:
    """The local tasks, then those of mteb."""
    local = [local_task(read_task(folder)) for folder in request.folders]
    names = split_names(request.names)
    names += [name for source in request.lists for name in read_task_list(source)]
    tasks = [*local, *named_tasks(names)]
    check_names([task.metadata.name for task in tasks])
    if not tasks:
        raise ConfigError("no task: name some of mteb's with --mteb, or a folder with --task")
    return tasks


def chosen_candidates(request: BenchmarkRequest) -> list[Candidate]:
    """The baselines, then the models."""
    options = LoadOptions(
        device=pick_device(request.device), precision=request.precision, prompts=request.prompts
    )
    candidates = [baseline_candidate(name, options, warn) for name in request.baselines]
    candidates += [
        candidate_at(where, options)
        for source in request.models
        for where in model_paths(source, warn, all_checkpoints=request.all_checkpoints)
    ]
    check_unique((candidate.name, candidate.step) for candidate in candidates)
    for candidate in candidates:
        candidate.check()
    return candidates


def run_request(log: Path, options: Namespace) -> BenchmarkRequest:
    """What `describe.py` asks for a run: its Matryoshka sizes, and what it started from beside.

    Raises:
        ConfigError: the log is not in a model folder.
    """
    folder = log if log.is_dir() else log.parent
    path = folder / "training.json"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file: scores are of a run's model; use kl3m mteb")
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


def can_be_found(base: str) -> bool:
    """Whether what a run started from is still whole; if not, it is only missing as a baseline."""
    try:
        read_text_files(initial_folder(base))
    except UserError as error:
        warn(f"not among the baselines: {error}")
        return False
    return True


def split_names(text: str) -> list[str]:
    """Names parted by commas; those inside of parentheses belong to a name, as in MTEB(eng, v2)."""
    names = re.split(r",(?![^(]*\))", text)
    return [name.strip() for name in names if name.strip()]


def checked_dtypes(names: Sequence[str]) -> list[Dtype]:
    """The names, if they are known."""
    for name in names:
        if name not in DTYPES:
            raise ConfigError(f"--dtypes {name}: unknown: use {', '.join(DTYPES)}")
    return [dtype for dtype in DTYPES if dtype in names]


def check_names(names: Sequence[str]) -> None:
    """Raise if two tasks have one name: their results would be one file."""
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise ConfigError(f"--task: two tasks are called {twice[0]!r}: rename one in its task.json")


def check_failures(rows: Sequence[Score]) -> int:
    """0, unless a task has failed.

    Raises:
        RetryError: all failures are of data that is not to be had here.
        DataError: others are among them.
    """
    failures: dict[str, list[Score]] = {}
    for row in rows:
        if row.error is not None:
            failures.setdefault(row.error, []).append(row)
    if not failures:
        return 0
    lines = []
    for error, of_error in failures.items():
        tasks = ", ".join(dict.fromkeys(row.task for row in of_error))
        models = (
            "" if error == NO_DATA else f" ({', '.join(dict.fromkeys(r.model for r in of_error))})"
        )
        remedy = (
            ": fetch it where there is a network, HF_HOME says where to" if error == NO_DATA else ""
        )
        lines.append(f"{tasks}{models}: {error}{remedy}")
    lines.append("all other scores are saved")
    raise (RetryError if set(failures) == {NO_DATA} else DataError)("\n".join(lines))
