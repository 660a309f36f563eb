"""Where a run starts: at step 0, at its newest whole checkpoint, or at one that was named.

Finding the start changes nothing. What the run will not go on from is put aside by `clear_way`,
which is called when all else that can fail has been done.
"""

from collections.abc import Callable
from pathlib import Path

from kl3m_embeddings.engine.state_files import read_train_state
from kl3m_embeddings.errors import ConfigError, DamagedError
from kl3m_embeddings.files.checkpoint import (
    CHECKPOINT_NAME,
    TRAINER,
    Checkpoint,
    checkpoint_steps,
    newest_verified,
    verify,
)
from kl3m_embeddings.files.latest import LATEST, is_copy, point_latest
from kl3m_embeddings.train.logs import LOG, LOG_FILES

RUN_FILE = "run.jsonl"


def find_start(
    folder: Path,
    *,
    restart: bool,
    resume_from: Path | None,
    warn: Callable[[str], None],
) -> Checkpoint | None:
    """The checkpoint to start from, verified; None: start at step 0.

    Args:
        folder: the model folder.
        restart: start at step 0.
        resume_from: a checkpoint of this folder or another.
        warn: told of what a person may want to know.

    Raises:
        ConfigError: there is a log but no checkpoint.
        DataError: there are checkpoints, and the wanted one, or all, are damaged.
    """
    if restart:
        return None
    if resume_from is not None:
        return _start_from(folder, resume_from)
    start = newest_verified(folder, warn, check_state)
    log = folder / LOG
    if start is None and log.exists() and log.stat().st_size:
        raise ConfigError(
            f"{log}: there is a log but no checkpoint to go on from: start anew with --restart "
            "(what is there is put aside, not deleted)"
        )
    return start


def check_state(checkpoint: Checkpoint) -> None:
    """Check that the trainer's state can be gone on with.

    Raises:
        DamagedError: it is no state, or not this checkpoint's.
    """
    folder = checkpoint.path / TRAINER
    if (step := read_train_state(folder).step) != checkpoint.step:
        raise DamagedError(f"{folder}: the state of step {step}, not of {checkpoint.step}")


def whole(path: Path) -> Checkpoint:
    """The checkpoint in a folder, verified with its state.

    Raises:
        DataError: it is damaged.
    """
    checkpoint = verify(path)
    check_state(checkpoint)
    return checkpoint


def _start_from(folder: Path, resume_from: Path) -> Checkpoint:
    resolved = resume_from.resolve()  # `latest` is a link
    if resolved.parent == folder.resolve():
        if resolved.name == LATEST and is_copy(resolved):
            return whole(folder / f"checkpoint-{verify(resolved).step}")
        if CHECKPOINT_NAME.fullmatch(resolved.name):
            return whole(folder / resolved.name)
    start = whole(resume_from)
    own_start = {**start.manifest, "log_offsets": {}}  # the other folder's logs stay there
    return Checkpoint(start.path, own_start)


def is_of(folder: Path, start: Checkpoint) -> bool:
    """Whether it is one of the folder's own checkpoints, not one of another run or put aside."""
    return start.path.parent == folder and bool(CHECKPOINT_NAME.fullmatch(start.path.name))


def clear_way(
    folder: Path,
    start: Checkpoint | None,
    *,
    restart: bool,
    resume_from: Path | None,
    warn: Callable[[str], None],
) -> None:
    """Put aside the checkpoints, and the logs, that are not what the run goes on from.

    `latest`, whatever has become of it, is made to name the start.

    Args:
        folder: the model folder.
        start: what `find_start` gave.
        restart: as there.
        resume_from: as there.
        warn: told where things are.
    """
    if restart:
        if aside := put_aside(folder, lambda _: True):
            warn(f"{folder}: what earlier runs wrote is in {aside.name}/")
    elif start is not None:
        is_own = is_of(folder, start)
        first_newer = start.step + 1 if is_own else 0
        aside = None
        if resume_from is not None and any(s >= first_newer for s in checkpoint_steps(folder)):
            aside = put_aside(folder, lambda step: step >= first_newer, logs=not is_own)
        if aside:
            warn(f"{folder}: checkpoints that are not part of this run are in {aside.name}/")
        if is_own:
            point_latest(folder, start.path.name)


def put_aside(folder: Path, chosen: Callable[[int], bool], *, logs: bool = True) -> Path | None:
    """Move the chosen checkpoints, and the logs, into a new `previous-<n>`; None if none are."""
    moved = [folder / f"checkpoint-{step}" for step in checkpoint_steps(folder) if chosen(step)]
    if logs:
        moved += [folder / name for name in (*LOG_FILES, RUN_FILE) if (folder / name).exists()]
    if not moved:
        return None
    numbers = range(1, 1 << 31)
    aside = next(p for n in numbers if not (p := folder / f"previous-{n}").exists())
    aside.mkdir()
    for path in moved:
        path.rename(aside / path.name)
    return aside
