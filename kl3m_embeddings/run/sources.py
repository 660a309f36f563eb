"""What a run's tasks read and what it is evaluated on: text, pairs, or both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kl3m_embeddings.config.tasks import EmbeddingOptions, PairsOptions, TaskOptions
from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules
from kl3m_embeddings.encoder.stock.without_padding import PACKED_TYPES
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.evaluation.evaluator import Evaluator
from kl3m_embeddings.evaluation.task_probe import TaskProbe
from kl3m_embeddings.local_tasks.folder import read_task
from kl3m_embeddings.messages import warn
from kl3m_embeddings.run.model import RunModel, eval_dims
from kl3m_embeddings.run.pairs import (
    open_pairs,
    pair_evaluations,
    pair_source,
    say_what_is_read,
)
from kl3m_embeddings.run.text import RunText, open_text, text_evaluation
from kl3m_embeddings.tasks import EMBEDDING_TASKS, MASKED_TASKS
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask, part_tokens
from kl3m_embeddings.tasks.objective import Objective
from kl3m_embeddings.tasks.plan import PlannedTask

COMPARES_PAIRS = ("infonce", "cosent", "online_contrastive")  # a pair alone has loss 0


@dataclass(frozen=True, kw_only=True)
class Devices:
    """How many devices there are, and were at the run's first start."""

    number: int = 1
    first_number: int = 1

    def share_of(self, key: str, batch_size: int) -> int:
        """A device's samples of a micro-batch that is as large as it was at the first start.

        Args:
            key: of training.json, for the message.
            batch_size: of a device at the first start.

        Raises:
            ConfigError: the devices cannot share it evenly.
        """
        share, rest = divmod(batch_size * self.first_number, self.number)
        if rest:
            raise ConfigError(
                f"{key}: the run began with micro-batches of {batch_size * self.first_number} "
                f"({batch_size} on each of {self.first_number} devices), which {self.number} "
                "devices cannot share evenly: go on with a number of devices that divides it"
            )
        return share


@dataclass(frozen=True, kw_only=True)
class RunSources:
    """The tasks of a run, bound to what they read."""

    text: RunText | None
    """None where no task reads text."""
    pair_sets: list[PairSet]
    tasks: Mapping[str, PlannedTask]


def open_sources(
    training: TrainingConfig,
    model: RunModel,
    device: torch.device,
    devices: Devices,
    *,
    quiet: bool,
) -> RunSources:
    """Open, and where need be build, everything that the tasks read."""
    text = None
    if training.reads_text:
        text = open_text(training, model.tokenizer, model.max_length)
    pair_sets = open_pairs(training, model.tokenizer, model.prefixes)
    tasks = {
        name: _planned(name, options, training, model, devices, text, pair_sets)
        for name, options in training.tasks.chosen().items()
    }
    is_packed = model.architecture.model_type in PACKED_TYPES
    for one in tasks.values():
        if isinstance(one.task, EmbeddingTask):
            one.task.part_tokens = part_tokens(device, is_packed=is_packed)
    if "pairs" in tasks and not quiet:
        say_what_is_read(pair_sets, tasks["pairs"].source)
    return RunSources(text=text, pair_sets=pair_sets, tasks=tasks)


def _planned(
    name: str,
    options: TaskOptions,
    training: TrainingConfig,
    model: RunModel,
    devices: Devices,
    text: RunText | None,
    pair_sets: list[PairSet],
) -> PlannedTask:
    """A task with its source."""
    probability = options.probability
    if not isinstance(options, EmbeddingOptions):
        assert text is not None
        batch_size = devices.share_of("batch_size", training.batch_size)
        return PlannedTask(MASKED_TASKS[name](options), text.train, probability, batch_size)
    task = EMBEDDING_TASKS[name](options, model.max_length)
    key = f"tasks.{name}.batch_size" if options.batch_size else "batch_size"
    batch_size = devices.share_of(key, options.batch_size or training.batch_size)
    whole_batch = batch_size * devices.number
    check_batch(name, options, whole_batch)
    if not isinstance(options, PairsOptions):
        assert text is not None
        return PlannedTask(task, text.train, probability, batch_size)
    source = pair_source(
        training,
        options,
        pair_sets,
        model.tokenizer,
        max_length=model.max_length,
        batch_size=whole_batch,
    )
    return PlannedTask(task, source, probability, batch_size)


def check_batch(name: str, options: EmbeddingOptions, batch_size: int) -> None:
    """Raise where a text would have no other to be told from: its loss would always be 0."""
    loss = getattr(getattr(options, "loss", None), "name", None)
    has_negatives = bool(getattr(options, "num_negatives", 0))
    if batch_size == 1 and loss in COMPARES_PAIRS and not has_negatives:
        raise ConfigError(
            f"tasks.{name}: batch_size 1 leaves {loss} nothing to compare: choose 2 or more"
            + (", or set num_negatives" if name == "pairs" and loss == "infonce" else "")
        )


def build_evaluator(
    training: TrainingConfig, model: RunModel, sources: RunSources, objective: Objective
) -> Evaluator | None:
    """Evaluation on held-out text, pairs and tasks; None where there is none of them."""
    pairs = pair_evaluations(training, model.tokenizer, model.prefixes)
    text = text_evaluation(training, sources.text)
    dims = eval_dims(training, objective.embedding_head.embedding_size)
    probes = task_probes(training, model)
    best = training.save.best_metric
    known = [name for one in pairs for name in one.fields(dims)]
    known += [name for one in probes for name in one.fields(dims)]
    if best is not None and best not in known:
        raise ConfigError(
            f"save.best_metric: {best} is not evaluated: "
            + (
                f"choose one of {', '.join(known)}"
                if known
                else "name held-out pairs in eval.pairs, or tasks in eval.tasks"
            )
        )
    if text is None and not pairs and not probes:
        if training.num_eval_samples:
            warn("nothing is evaluated: name held-out pairs in eval.pairs, or tasks in eval.tasks")
        return None
    return Evaluator(
        text=text,
        pairs=pairs,
        tokenizer=model.tokenizer,
        seq_len=model.text_length,
        dims=dims,
        probes=probes,
        best_metric=best,
    )


def task_probes(training: TrainingConfig, model: RunModel) -> list[TaskProbe]:
    """The tasks of `eval.tasks`, tokenised.

    Raises:
        ConfigError: a folder has no task.json, a task cannot be scored here, or two share a name.
    """
    modules = model.modules or SentenceModules()
    probes: dict[str, TaskProbe] = {}
    for folder in training.eval.tasks:
        probe = TaskProbe.build(
            read_task(Path(folder)),
            model.tokenizer,
            model.prefixes,
            modules.default_prompt,
            similarity=modules.similarity_fn_name or "cosine",
            truncate_dim=modules.truncate_dim,
        )
        if probe.name in probes:
            raise ConfigError(f"eval.tasks: {folder}: another task is called {probe.name}")
        probes[probe.name] = probe
    return list(probes.values())
