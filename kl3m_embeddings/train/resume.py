"""Where a run starts: at step 0, at its newest whole checkpoint, or at one that was named."""

from collections.abc import Callable
from pathlib import Path

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.train.checkpoint import (
    Checkpoint,
    checkpoint_steps,
    newest_verified,
    point_latest,
    verify,
)
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
        restart: put what earlier runs wrote aside, and start at step 0.
        resume_from: a checkpoint of this folder or another; newer ones here are put aside.
        warn: told of what a person may want to know.

    Raises:
        ConfigError: there is a log but no checkpoint.
        DataError: there are checkpoints, and the wanted one, or all, are damaged.
    """
    if restart:
        if aside := put_aside(folder, lambda _: True):
            warn(f"{folder}: what earlier runs wrote is in {aside.name}/")
        return None
    if resume_from is not None:
        return _start_from(folder, resume_from, warn)
    start = newest_verified(folder, warn)
    log = folder / LOG
    if start is None and log.exists() and log.stat().st_size:
        raise ConfigError(
            f"{log}: there is a log but no checkpoint to go on from: start anew with --restart "
            "(what is there is put aside, not deleted)"
        )
    return start


def _start_from(folder: Path, resume_from: Path, warn: Callable[[str], None]) -> Checkpoint:
    resolved = resume_from.resolve()  # `latest` is a link
    is_ours = resolved.parent == folder.resolve()
    start = verify(folder / resolved.name if is_ours else resume_from)

    def is_newer(step: int) -> bool:
        return not is_ours or step > start.step

    if any(is_newer(step) for step in checkpoint_steps(folder)):
        aside = put_aside(folder, is_newer, logs=not is_ours)
        if aside:
            warn(f"{folder}: checkpoints that are not part of this run are in {aside.name}/")
    if is_ours:
        point_latest(folder, start.path.name)
        return start
    own_start = {**start.manifest, "log_offsets": {}}  # the other folder's logs stay there
    return Checkpoint(start.path, own_start)


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
