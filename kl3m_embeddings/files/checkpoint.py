"""Checkpoints: the truth of a run, never overwritten, whole or not there.

1. Everything is written into a hidden sibling folder and synced to the disk.
2. The manifest, with every file's size and SHA-256 and its own, comes last.
3. The folder gets its name `checkpoint-<step>` in one rename, and the parent is synced.
4. `latest` is pointed at it (`latest.py`), and older checkpoints go.

A process that dies anywhere leaves the checkpoint before as it was.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors import SafetensorError

from kl3m_embeddings.errors import DamagedError, DataError, OutputError
from kl3m_embeddings.files.faults import fault_point
from kl3m_embeddings.files.hashes import sha256_of_file
from kl3m_embeddings.files.records import Count, Positive, Record, check_record, read_object
from kl3m_embeddings.files.whole import sync

MANIFEST = "manifest.json"
TRAINER = "trainer"
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")
UNFINISHED = ".unfinished-"
NOT_WHOLE = "not a whole checkpoint"
MAX_THREADS = 4096


class SealedFile(Record):
    """A file, as the manifest lists it."""

    size: Count
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Base:
    """The model that a run began from, `init_from`."""

    source: str
    """As `init_from` named it."""
    fingerprint: str
    """Of its content, read with the run's tokenizer."""
    has_tokenizer: bool = True
    """Whether the run's tokenizer is its own."""


class Manifest(Record):
    """What a manifest holds; one that is sealed may be another version's all the same."""

    step: Count
    identity: dict[str, Any]
    base: Base | None = None
    num_threads: Annotated[int, Field(gt=0, le=MAX_THREADS)]
    num_devices: Positive = 1
    log_offsets: dict[str, Count]
    files: dict[str, SealedFile]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.manifest["step"])

    @property
    def base(self) -> Base | None:
        """What its run began from; None: random weights, or unsaid by an early release."""
        found = self.manifest.get("base")
        return found and check_record(self.path / MANIFEST, found, Base, NOT_WHOLE)


def save_checkpoint(
    folder: Path, step: int, write: Callable[[Path], None], details: dict[str, Any]
) -> Path:
    """Write `checkpoint-<step>` in the model folder.

    Args:
        folder: the model folder.
        step: names the checkpoint.
        write: fills the folder that it is given.
        details: what the manifest holds beside the files.
    """
    final = folder / f"checkpoint-{step}"
    unfinished = folder / f"{UNFINISHED}{final.name}"
    try:
        unfinished.mkdir()
        write(unfinished)
        fault_point("after_files")
        write_manifest(unfinished, {"step": step, **details})
        fault_point("after_manifest")
        if final.exists():
            set_aside(final)
        unfinished.rename(final)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    except SafetensorError as error:  # its word for a full disk
        shutil.rmtree(unfinished, ignore_errors=True)
        raise OutputError(
            f"{final}: cannot be written: {error}; make room, and run the command again: it goes "
            "on from the last checkpoint"
        ) from None
    fault_point("after_rename")
    sync(folder)
    return final


def write_manifest(path: Path, details: dict[str, Any]) -> None:
    """Sync every file in the folder, and list them all in its manifest."""
    files = {}
    for file in files_in(path):
        sync(file)
        name = file.relative_to(path).as_posix()
        files[name] = {"size": file.stat().st_size, "sha256": sha256_of_file(file)}
    fault_point("before_manifest")
    manifest = path / MANIFEST
    content = {**details, "files": files}
    text = json.dumps({**content, "sha256": _digest(content)}, allow_nan=False, indent=1)
    manifest.write_text(text + "\n", encoding="utf-8")
    for entry in (manifest, *(file for file in path.rglob("*") if file.is_dir()), path):
        sync(entry)


def verify(path: Path) -> Checkpoint:
    """Read the checkpoint's manifest and check every file against it.

    Raises:
        DamagedError: naming the file that is missing, truncated or changed.
    """
    file = path / MANIFEST
    manifest = read_object(file, NOT_WHOLE)
    if manifest.pop("sha256", None) != _digest(manifest):
        raise DamagedError(f"{file}: its content has changed since it was written")
    check_record(file, manifest, Manifest, NOT_WHOLE)
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise DamagedError(f"{file}: missing")
        if file.stat().st_size != expected["size"]:
            raise DamagedError(f"{file}: {file.stat().st_size} bytes, not {expected['size']}")
        try:
            found = sha256_of_file(file)
        except OSError as error:
            raise DamagedError(f"{file}: cannot be read: {error.strerror}") from None
        if found != expected["sha256"]:
            raise DamagedError(f"{file}: its content has changed since it was written")
    return Checkpoint(path, manifest)


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of the checkpoint folders, newest first; they may be damaged."""
    names = (CHECKPOINT_NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*"))
    return sorted((int(name[1]) for name in names if name), reverse=True)


def newest_verified(
    folder: Path,
    warn: Callable[[str], None],
    check: Callable[[Checkpoint], object] = lambda _: None,
) -> Checkpoint | None:
    """The newest whole checkpoint; damaged ones are named to `warn`. None where there are none.

    Args:
        folder: the model folder.
        warn: told of damaged ones.
        check: looks into what only its caller understands; raises a DamagedError if that is wrong.

    Raises:
        DataError: there are checkpoints, and all are damaged.
    """
    found = whole_checkpoints(folder, warn, "falling back to the checkpoint before", check)
    return next(found, None)


def whole_checkpoints(
    folder: Path,
    warn: Callable[[str], None],
    consequence: str,
    check: Callable[[Checkpoint], object] = lambda _: None,
) -> Iterator[Checkpoint]:
    """The whole checkpoints, newest first; a damaged one is named to `warn`, and what follows.

    Raises:
        DataError: there are checkpoints, and all are damaged.
    """
    steps, any_whole = checkpoint_steps(folder), False
    for step in steps:
        path = folder / f"checkpoint-{step}"
        try:
            checkpoint = verify(path)
            if checkpoint.step != step:
                raise DamagedError(f"{path / MANIFEST}: is of step {checkpoint.step}")
            check(checkpoint)
        except DamagedError as error:
            warn(f"{error}; {consequence}")
            continue
        any_whole = True
        yield checkpoint
    if steps and not any_whole:
        raise DataError(f"{folder}: every checkpoint is damaged; start anew with --restart")


def prune(folder: Path, keep: Callable[[list[int]], set[int]], known: set[int]) -> None:
    """Delete the verified checkpoints that `keep`, given their steps newest first, leaves out.

    Args:
        folder: the model folder.
        keep: chooses among the verified steps.
        known: steps that this process has written or verified itself.
    """
    verified = []
    for step in checkpoint_steps(folder):
        if step not in known:
            try:
                verify(folder / f"checkpoint-{step}")
            except DataError:
                continue  # kept for its owner to look at, and no reason to delete a whole one
            known.add(step)
        verified.append(step)
    for step in set(verified) - keep(verified):
        doomed = folder / f"{UNFINISHED}doomed-{step}"
        (folder / f"checkpoint-{step}").rename(doomed)
        fault_point("while_pruning")
        remove(doomed)
        known.discard(step)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that died left half-written or half-deleted."""
    for path in folder.glob(f"{UNFINISHED}*"):
        remove(path)


def remove(path: Path) -> None:
    """Delete a folder, a file or a link, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path, why: str = "damaged") -> Path:
    """Give what stands where something else belongs a name that says why: `damaged-<name>-<n>`."""
    numbers = range(1, 1 << 31)
    names = (path.with_name(f"{why}-{path.name}-{number}") for number in numbers)
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    return aside


def files_in(path: Path) -> Iterator[Path]:
    """The files of a folder and of those in it."""
    return (file for file in sorted(path.rglob("*")) if file.is_file())


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
