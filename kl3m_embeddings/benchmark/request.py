"""What is asked to be scored: tasks and models by name, checked before any work is done."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mteb.abstasks import AbsTask

from kl3m_embeddings.benchmark.candidates import (
    Candidate,
    LoadOptions,
    baseline_candidate,
    candidate_at,
)
from kl3m_embeddings.benchmark.local_tasks import local_task
from kl3m_embeddings.benchmark.named_tasks import named_tasks, read_task_list
from kl3m_embeddings.benchmark.run import NO_DATA
from kl3m_embeddings.benchmark.scores import Score
from kl3m_embeddings.benchmark.variants import DTYPES, Dtype
from kl3m_embeddings.encoder.folder.model_paths import (
    check_unique,
    is_run,
    model_paths,
)
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.hardware import pick_device
from kl3m_embeddings.encoder.kernels.precision import Precision
from kl3m_embeddings.errors import ConfigError, DataError, RetryError, UserError
from kl3m_embeddings.local_tasks.folder import read_local_task
from kl3m_embeddings.messages import warn

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


def chosen_tasks(request: BenchmarkRequest) -> list[AbsTask]:
    """The local tasks, then those of mteb."""
    local = [local_task(read_local_task(folder)) for folder in request.folders]
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


def can_be_found(base: str) -> bool:
    """Whether what a run started from is still whole; if not, it is only missing as a baseline."""
    try:
        _ = open_model(base).config
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
