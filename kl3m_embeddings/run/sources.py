"""What a run's tasks read and what it is evaluated on: text, pairs, or both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kl3m_embeddings.config.tasks import TaskOptions
from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.encoder.stock.without_padding import PACKED_TYPES
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.evaluation.evaluator import Evaluator
from kl3m_embeddings.evaluation.local_task_probe import LocalTaskProbe
from kl3m_embeddings.local_tasks.folder import read_local_task
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.messages import warn
from kl3m_embeddings.run.model import RunModel, eval_dims
from kl3m_embeddings.run.pairs import (
    RunPairs,
    open_pairs,
    pair_evaluations,
    pair_source,
    say_what_is_read,
)
from kl3m_embeddings.run.text import RunText, open_text, text_evaluation
from kl3m_embeddings.tasks import TASKS
from kl3m_embeddings.tasks.base import TextLimits, TextSource
from kl3m_embeddings.tasks.embedding.base import part_tokens
from kl3m_embeddings.tasks.embedding.pairs import PairSource
from kl3m_embeddings.tasks.objective import Objective
from kl3m_embeddings.tasks.plan import PlannedTask


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
    pairs: RunPairs
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
    pairs = open_pairs(training, model.tokenizer, model.prefixes, model.compared)
    is_packed = model.architecture.model_type in PACKED_TYPES
    limits = TextLimits(model.max_length, part_tokens(device, is_packed=is_packed))
    tasks = {}
    for name, options in training.tasks.chosen().items():
        task = TASKS[name].create(options, limits, model.compared)
        batch_size = batch_share(name, options, training, devices)
        source: TextSource | PairSource
        if task.reads == "pairs":
            whole_batch = batch_size * devices.number
            source = pair_source(training, pairs, model, batch_size=whole_batch, device=device)
        else:
            assert text is not None
            source = text.train
        tasks[name] = PlannedTask(task, source, options.probability, batch_size)
    if "pairs" in tasks and not quiet:
        say_what_is_read(pairs.sets, tasks["pairs"].source)
    return RunSources(text=text, pairs=pairs, tasks=tasks)


def batch_share(name: str, options: TaskOptions, training: TrainingConfig, devices: Devices) -> int:
    """A device's samples of a task's micro-batch."""
    own = getattr(options, "batch_size", None)
    key = f"tasks.{name}.batch_size" if own else "batch_size"
    batch_size = devices.share_of(key, own or training.batch_size)
    check_batch(name, options, batch_size * devices.number)
    return batch_size


def check_batch(name: str, options: TaskOptions, batch_size: int) -> None:
    """Raise where a text would have no other to be told from: its loss would always be 0."""
    loss = getattr(getattr(options, "loss", None), "name", None)
    has_negatives = bool(getattr(options, "num_negatives", 0))
    compares_pairs = loss is not None and LOSSES[loss].needs_two_pairs
    if batch_size == 1 and compares_pairs and not has_negatives:
        raise ConfigError(
            f"tasks.{name}: batch_size 1 leaves {loss} nothing to compare: choose 2 or more"
            + (", or set num_negatives" if name == "pairs" and loss == "infonce" else "")
        )


def build_evaluator(
    training: TrainingConfig, model: RunModel, sources: RunSources, objective: Objective
) -> Evaluator | None:
    """Evaluation on held-out text, pairs and tasks; None where there is none of them."""
    pairs = pair_evaluations(training, model)
    text = text_evaluation(training, sources.text)
    dims = eval_dims(training, objective.embedding_head.embedding_size)
    probes = local_task_probes(training, model)
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


def local_task_probes(training: TrainingConfig, model: RunModel) -> list[LocalTaskProbe]:
    """The tasks of `eval.tasks`, tokenised.

    Raises:
        ConfigError: a folder has no task.json, a task cannot be scored here, or two share a name.
    """
    modules = model.modules
    probes: dict[str, LocalTaskProbe] = {}
    for folder in training.eval.tasks:
        probe = LocalTaskProbe.build(
            read_local_task(Path(folder)),
            model.tokenizer,
            model.prefixes,
            model.default_prompt,
            similarity=model.compared.similarity,
            truncate_dim=modules.truncate_dim,
        )
        if probe.name in probes:
            raise ConfigError(f"eval.tasks: {folder}: another task is called {probe.name}")
        probes[probe.name] = probe
    return list(probes.values())
