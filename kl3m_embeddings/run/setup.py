"""Puts a run together: from a model folder's two files to a `Trainer` at its starting point."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.encoder.allocator import KeptMemory, keep_freed_memory
from kl3m_embeddings.encoder.hardware import (
    choose_precision,
    describe_hardware,
    describe_kernels,
    measure_peak_flops,
    pick_device,
)
from kl3m_embeddings.engine.base import Engine, TrainState
from kl3m_embeddings.engine.build import ENGINES
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.engine.single import DTYPES
from kl3m_embeddings.engine.state_files import read_tensors, read_train_state
from kl3m_embeddings.evaluation.evaluator import Evaluator
from kl3m_embeddings.evaluation.held_out_text import SAMPLES_FILE, write_samples
from kl3m_embeddings.files.checkpoint import (
    TRAINER,
    Checkpoint,
    remove_unfinished,
)
from kl3m_embeddings.messages import say, warn
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.run.card import card_writer
from kl3m_embeddings.run.logs import open_logs, write_run_record
from kl3m_embeddings.run.model import (
    RunModel,
    build_objective,
    model_writer,
    open_run_model,
)
from kl3m_embeddings.run.sources import (
    Devices,
    RunSources,
    build_evaluator,
    open_sources,
)
from kl3m_embeddings.tasks.objective import Objective
from kl3m_embeddings.tasks.plan import PlannedTask, Planner, step_flops
from kl3m_embeddings.train.clipping import GradNormWindow
from kl3m_embeddings.train.divergence import GoodCheckpoints, lower_rates
from kl3m_embeddings.train.identity import refuse_changes, refuse_differences, run_identity
from kl3m_embeddings.train.logs import EVAL, LOG, OBJECTS, NoWriter, RowWriter
from kl3m_embeddings.train.loop import Trainer
from kl3m_embeddings.train.resume import clear_way, find_start, is_of
from kl3m_embeddings.train.saver import Saver


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the command line asks for."""

    folder: Path
    training: TrainingConfig
    device: str | None = None
    restart: bool = False
    resume_from: Path | None = None
    stop_after: int | None = None
    quiet: bool = False
    command: Sequence[str] = field(default_factory=tuple)
    launcher: str = "train_single.py"
    ranks: Ranks = field(default_factory=Ranks)
    engine: str = "single"
    """A name of ENGINES."""


@dataclass(frozen=True, kw_only=True)
class OpenedFiles:
    """What a run reads, before any weight is loaded."""

    start: Checkpoint | None
    devices: Devices
    model: RunModel
    sources: RunSources
    identity: Mapping[str, Any]


@contextmanager
def open_run(request: RunRequest) -> Iterator[Trainer]:
    """A trainer that stands where the run is to start; its log files close at the end."""
    folder, training, ranks = request.folder, request.training, request.ranks
    with ranks.together():
        if ranks.is_main:
            remove_unfinished(folder)
        device = pick_device(request.device, ranks.local_rank)
    precision = choose_precision(training.precision, device)
    training = training.model_copy(update={"precision": precision})
    request = replace(request, training=training)
    opened = ranks.in_turn(lambda: open_files(request, device))
    start, model, sources = opened.start, opened.model, opened.sources
    with ranks.together():
        refuse_differences(ranks, {"step": start.step if start else 0, **opened.identity})
    if start is not None:
        if not request.quiet:
            say(f"{folder}: going on from {start.path.name}")
        torch.set_num_threads(start.manifest["num_threads"])  # sums depend on it
    objective, engine, state = load_engine(request, opened, device)
    measure_peak = partial(measure_peak_flops, device, DTYPES[training.precision])
    peak_flops = measure_peak()
    evaluator = ranks.in_turn(lambda: build_evaluator(training, model, sources, objective))
    command = (request.launcher, *request.command)
    card = card_writer(folder, command, training, model, sources, objective, device)
    with ExitStack() as stack:
        logs: Mapping[str, RowWriter] = dict.fromkeys((LOG, EVAL, OBJECTS), NoWriter())
        with ranks.together():
            if ranks.is_main:
                logs = begin_files(request, opened, state, evaluator, stack)
                write_run_record(folder, state, run_facts(request, opened, device, peak_flops))
        yield Trainer(
            training=training,
            engine=engine,
            planner=build_planner(training, model.architecture, sources.tasks, ranks, device),
            evaluator=evaluator,
            state=state,
            grad_norms=GradNormWindow(training.optimizer, device, state.grad_norms),
            logs=logs,
            saver=Saver(
                folder=folder,
                config=training.save,
                write_model=model_writer(folder, objective, model, card),
                details=manifest_details(opened),
                verified_steps={start.step} if start and is_of(folder, start) else set(),
            ),
            checkpoints=GoodCheckpoints(
                folder=folder,
                launcher=request.launcher,
                lower_rates=lower_rates(training.optimizer),
                start_step=state.step,
            ),
            flops_of=partial(step_flops, model.architecture),
            peak_flops=peak_flops,
            measure_peak=measure_peak,
            memory=KeptMemory() if device.type == "cpu" else None,
            last_step=last_step(request, state),
            quiet=request.quiet or not ranks.is_main,
        )


def open_files(request: RunRequest, device: torch.device) -> OpenedFiles:
    """Find the start, and open what the run reads; missing shards are built.

    Raises:
        ConfigError: among others, where the start is of a run with other settings.
    """
    folder, training, ranks = request.folder, request.training, request.ranks
    start = find_start(folder, restart=request.restart, resume_from=request.resume_from, warn=warn)
    first_number = start.manifest.get("num_devices", 1) if start else ranks.world_size
    devices = Devices(number=ranks.world_size, first_number=first_number)
    model = open_run_model(folder, training, start)
    sources = open_sources(training, model, device, devices, quiet=request.quiet)
    identity = run_identity(
        training,
        model.settings,
        {one.name: one.sha256 for one in sources.text.shards} if sources.text else {},
        sources.pairs.hashes(),
        model.tokenizer.text_fingerprint,
        base=model.base.fingerprint if model.base else None,
        max_length=model.max_length,
        world_size=first_number,
        similarity=model.compared.similarity,
    )
    if start is not None:
        refuse_changes(start.manifest["identity"], identity, str(folder))
    return OpenedFiles(
        start=start, devices=devices, model=model, sources=sources, identity=identity
    )


def load_engine(
    request: RunRequest, opened: OpenedFiles, device: torch.device
) -> tuple[Objective, Engine, TrainState]:
    """The objective in its engine, with the weights and the state of the start."""
    training, start = request.training, opened.start
    set_determinism(training, device)
    if device.type == "cpu":
        keep_freed_memory()
    losses = {
        name: one.task.loss
        for name, one in opened.sources.tasks.items()
        if one.task.loss is not None
    }
    objective = build_objective(opened.model, training, losses, device)
    optimizers = build_optimizers(objective.named_parameters(), training.optimizer)
    build = ENGINES[request.engine]
    engine = build(objective, optimizers, training, request.ranks, device)
    if start is None:
        return objective, engine, TrainState()
    tensors = read_tensors(start.path / TRAINER, ["heads", "optimizer"])
    engine.load(tensors["heads"], tensors["optimizer"])
    state = read_train_state(start.path / TRAINER)
    state.log_offsets = dict(start.manifest["log_offsets"])
    return objective, engine, state


def begin_files(
    request: RunRequest,
    opened: OpenedFiles,
    state: TrainState,
    evaluator: Evaluator | None,
    stack: ExitStack,
) -> Mapping[str, RowWriter]:
    """Put aside what the run does not go on from, and open its logs."""
    clear_way(
        request.folder,
        opened.start,
        restart=request.restart,
        resume_from=request.resume_from,
        warn=warn,
    )
    if evaluator and evaluator.text:
        write_samples(evaluator.text, request.folder / SAMPLES_FILE)
    return open_logs(request.folder, state, stack)


def manifest_details(opened: OpenedFiles) -> dict[str, Any]:
    """What the manifests of the run's checkpoints say of it."""
    return {
        "identity": opened.identity,
        "base": opened.model.base and vars(opened.model.base),
        "num_threads": torch.get_num_threads(),
        "num_devices": opened.devices.first_number,
    }


def run_facts(
    request: RunRequest, opened: OpenedFiles, device: torch.device, peak_flops: float
) -> dict[str, Any]:
    """What run.jsonl says of this start."""
    return {
        "command": list(request.command),
        "checkpoint": str(opened.start.path) if opened.start else None,
        "config": dict(opened.model.settings),
        "base": opened.model.base and vars(opened.model.base),
        "hardware": {
            **describe_hardware(device),
            "kernels": describe_kernels(device, request.training.precision),
            "peak_flops": peak_flops,
            "num_devices": request.ranks.world_size,
        },
        "training": request.training.model_dump(mode="json"),
    }


def set_determinism(training: TrainingConfig, device: torch.device) -> None:
    """Ask torch for algorithms that give the same bits at every repetition, where wanted."""
    wanted = training.deterministic
    if wanted if wanted is not None else device.type == "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # filling uninitialised memory would only hide a defect, and costs a tenth of a step
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def build_planner(
    training: TrainingConfig,
    architecture: PretrainedConfig,
    tasks: Mapping[str, PlannedTask],
    ranks: Ranks,
    device: torch.device,
) -> Planner:
    """Plans of this device's steps."""
    return Planner(
        tasks=tasks,
        seed=training.seed,
        hidden_size=int(architecture.hidden_size),
        accumulation=training.gradient_accumulation_steps,
        matroyshka_probability=training.matroyshka_probability,
        matroyshka_min_log2=training.matroyshka_min_log2,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pins_memory=device.type == "cuda",
    )


def last_step(request: RunRequest, state: TrainState) -> int:
    """Where this call ends: at the schedule's end, or `--stop-after` steps from here."""
    total = request.training.optimizer.num_steps
    return min(total, state.step + request.stop_after) if request.stop_after else total
