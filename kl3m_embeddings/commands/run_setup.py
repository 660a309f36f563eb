"""Puts a run together: from a model folder's two files to a `Trainer` at its starting point."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import torch
from transformers import PretrainedConfig

from kl3m_embeddings.commands.run_card import card_writer
from kl3m_embeddings.commands.run_model import build_objective, model_writer, open_model
from kl3m_embeddings.commands.run_sources import build_evaluator, open_sources
from kl3m_embeddings.commands.run_text import warn
from kl3m_embeddings.config import TrainingConfig
from kl3m_embeddings.encoder.allocator import keep_freed_memory
from kl3m_embeddings.encoder.flops import training_flops
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.engine.single import DTYPES, SingleEngine
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.strict_json import read_json_object
from kl3m_embeddings.tasks.embedding import EmbeddingTask
from kl3m_embeddings.tasks.plan import PlannedTask, Planner, StepPlan
from kl3m_embeddings.train.checkpoint import (
    TRAINER,
    Checkpoint,
    remove_unfinished,
)
from kl3m_embeddings.train.clipping import GradNormWindow
from kl3m_embeddings.train.evaluate_text import SAMPLES_FILE, write_samples
from kl3m_embeddings.train.hardware import (
    describe_hardware,
    describe_versions,
    measure_peak_flops,
    pick_device,
)
from kl3m_embeddings.train.identity import refuse_changes, run_identity
from kl3m_embeddings.train.logs import (
    EVAL,
    LOG,
    OBJECTS,
    GzipWriter,
    JsonlWriter,
    RowWriter,
    cut_logs,
    json_line,
)
from kl3m_embeddings.train.loop import Trainer
from kl3m_embeddings.train.resume import RUN_FILE, clear_way, find_start


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


@contextmanager
def open_run(request: RunRequest) -> Iterator[Trainer]:
    """A trainer that stands where the run is to start; its log files close at the end."""
    folder, training = request.folder, request.training
    remove_unfinished(folder)
    start = find_start(folder, restart=request.restart, resume_from=request.resume_from, warn=warn)
    model = open_model(folder, training, start)
    device = pick_device(request.device)
    sources = open_sources(training, model, device, quiet=request.quiet)
    identity = run_identity(
        training,
        read_json_object(folder / "config.json"),
        {one.name: one.sha256 for one in sources.text.shards} if sources.text else {},
        {one.name: one.sha256 for one in sources.pair_sets},
        model.tokenizer.fingerprint,
        max_length=model.max_length,
        world_size=1,
    )
    if start is not None:
        if not request.quiet:
            print(f"{folder}: going on from {start.path.name}", file=sys.stderr)
        refuse_changes(start.manifest["identity"], identity, str(folder))
        torch.set_num_threads(start.manifest["num_threads"])
    set_determinism(training, device)
    if device.type == "cpu":
        keep_freed_memory()
    losses = {
        name: one.task.loss
        for name, one in sources.tasks.items()
        if isinstance(one.task, EmbeddingTask)
    }
    objective = build_objective(model, training, losses, device)
    engine = SingleEngine(
        objective,
        build_optimizers(objective.named_parameters(), training.optimizer),
        device=device,
        precision=training.precision,
        compiled=training.compile,
    )
    state = TrainState(**engine.load(start.path / TRAINER)) if start else TrainState()
    state.log_offsets = dict(start.manifest["log_offsets"]) if start else {}
    peak_flops = measure_peak_flops(device, DTYPES[training.precision])
    evaluator = build_evaluator(training, model, sources, objective)
    card = card_writer(folder, request.command, training, model, sources, objective, device)
    clear_way(folder, start, restart=request.restart, resume_from=request.resume_from, warn=warn)
    if evaluator and evaluator.text:
        write_samples(evaluator.text, folder / SAMPLES_FILE)
    with ExitStack() as stack:
        logs = open_logs(folder, state, stack)
        write_run_record(request, state, device, peak_flops, start)
        yield Trainer(
            folder=folder,
            training=training,
            engine=engine,
            device=device,
            planner=build_planner(training, model.architecture, sources.tasks),
            evaluator=evaluator,
            state=state,
            grad_norms=GradNormWindow(training.optimizer, device, state.grad_norms),
            logs=logs,
            write_model=model_writer(objective, model, card),
            checkpoint_details={"identity": identity, "num_threads": torch.get_num_threads()},
            flops_of=flops_counter(model.architecture),
            peak_flops=peak_flops,
            last_step=last_step(request, state),
            verified_steps={start.step} if start and start.path.parent == folder else set(),
            quiet=request.quiet,
        )


def set_determinism(training: TrainingConfig, device: torch.device) -> None:
    """Ask torch for algorithms that give the same bits at every repetition, where wanted."""
    wanted = training.deterministic
    if wanted if wanted is not None else device.type == "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # filling uninitialised memory would only hide a defect, and costs a tenth of a step
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def build_planner(
    training: TrainingConfig, architecture: PretrainedConfig, tasks: Mapping[str, PlannedTask]
) -> Planner:
    """Plans of this device's steps."""
    return Planner(
        tasks=tasks,
        seed=training.seed,
        hidden_size=int(architecture.hidden_size),
        accumulation=training.gradient_accumulation_steps,
        matroyshka_probability=training.matroyshka_probability,
        matroyshka_min_log2=training.matroyshka_min_log2,
    )


def open_logs(folder: Path, state: TrainState, stack: ExitStack) -> Mapping[str, RowWriter]:
    """The log files, cut to where the state knows them, open to append."""
    for message in cut_logs(folder, state.log_offsets, state.step):
        warn(message)
    files = {name: stack.enter_context((folder / name).open("ab")) for name in (LOG, EVAL, OBJECTS)}
    return {
        LOG: JsonlWriter(files[LOG]),
        EVAL: JsonlWriter(files[EVAL]),
        OBJECTS: GzipWriter(files[OBJECTS]),
    }


def write_run_record(
    request: RunRequest,
    state: TrainState,
    device: torch.device,
    peak_flops: float,
    start: Checkpoint | None,
) -> None:
    """Append to run.jsonl what this start runs on and with."""
    record = {
        "event": "resume" if start else "start",
        "step": state.step,
        "time": datetime.now().astimezone().isoformat(),
        "command": list(request.command),
        "checkpoint": str(start.path) if start else None,
        "hardware": {**describe_hardware(device), "peak_flops": peak_flops},
        "versions": describe_versions(),
        "config": read_json_object(request.folder / "config.json"),
        "training": request.training.model_dump(mode="json"),
    }
    with (request.folder / RUN_FILE).open("ab") as file:
        file.write(json_line(record))


def flops_counter(architecture: PretrainedConfig) -> Callable[[StepPlan], float]:
    """A function that counts the floating-point operations of a step."""

    def count(plan: StepPlan) -> float:
        return sum(
            training_flops(architecture, rows * length, length, batch.num_targets)
            for batch in plan.batches
            for rows, length in batch.shapes()
        )

    return count


def last_step(request: RunRequest, state: TrainState) -> int:
    """Where this call ends: at the schedule's end, or `--stop-after` steps from here."""
    total = request.training.optimizer.num_steps
    return min(total, state.step + request.stop_after) if request.stop_after else total
