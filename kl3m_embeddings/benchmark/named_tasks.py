"""Tasks of mteb by name: single ones, benchmarks, lists in files, and the lists that ship here."""

from collections.abc import Sequence
from copy import copy
from importlib.resources import files
from pathlib import Path

import mteb
from mteb.abstasks import AbsTask
from mteb.get_tasks import _TASKS_REGISTRY

from kl3m_embeddings.errors import ConfigError, did_you_mean
from kl3m_embeddings.files.path_kind import why_not

LISTS = files("kl3m_embeddings.benchmark") / "task_lists"


def named_tasks(names: Sequence[str]) -> list[AbsTask]:
    """The tasks of these names, each once; a benchmark's name stands for all its tasks.

    What is named twice is asked in all the languages, and of all the splits, of both.

    Raises:
        ConfigError: naming all unknown names, each with the nearest known one.
    """
    tasks: dict[str, AbsTask] = {}
    problems = []
    benchmarks = {benchmark.name: benchmark for benchmark in mteb.get_benchmarks()}
    for name in names:
        if name in _TASKS_REGISTRY:
            found = [mteb.get_task(name)]
        elif name in benchmarks:
            found = [task for task in benchmarks[name].tasks if is_text(task)]
        else:
            found = []
            known_names = [*_TASKS_REGISTRY, *benchmarks]
            problems.append(
                f"{name}: mteb {mteb.__version__} has no such task or benchmark"
                + did_you_mean(name, known_names, "see mteb available-tasks")
            )
        for task in found:
            known = tasks.get(task.metadata.name)
            tasks[task.metadata.name] = task if known is None else joined(known, task)
    if problems:
        raise ConfigError("\n".join(problems))
    return list(tasks.values())


def joined(first: AbsTask, second: AbsTask) -> AbsTask:
    """One task for what two ask of the same data."""
    both = copy(first)  # a benchmark's own tasks stay as they are
    both.hf_subsets = list(dict.fromkeys([*first.hf_subsets, *second.hf_subsets]))
    return both.filter_eval_splits(list(dict.fromkeys([*first.eval_splits, *second.eval_splits])))


def is_text(task: AbsTask) -> bool:
    """Whether texts are all it asks about."""
    return task.metadata.modalities == ["text"]


def read_task_list(source: str) -> list[str]:
    """The names in a file, one a line, `#` begins a comment; or in a list that ships here.

    Raises:
        ConfigError: There is no such file, or no name in it.
    """
    shipped = LISTS / f"{source}.txt"
    path = Path(source)
    why = why_not(path, "file")
    if why and not shipped.is_file():
        known = ", ".join(sorted(one.name.removesuffix(".txt") for one in LISTS.iterdir()))
        raise ConfigError(f"{source}: {why}: give a file of task names, or one of {known}")
    text = (shipped if why else path).read_text(encoding="utf-8")
    names = [line.partition("#")[0].strip() for line in text.splitlines()]
    if not any(names):
        raise ConfigError(f"{source}: no task name in it: write one a line")
    return [name for name in names if name]
