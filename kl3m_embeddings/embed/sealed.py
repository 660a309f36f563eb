"""A folder of outputs, one for each input file, and which of them are whole: `manifest.jsonl`.

Its first line is what all outputs depend on, each other line an output: it is written when the file
lies durably in its place, and what has no line is made again. An input's later line replaces its
earlier one. One process at a time writes here.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import ConfigError, writing
from kl3m_embeddings.files.hashes import sha256_of_file
from kl3m_embeddings.files.json_lines import json_line, read_lines
from kl3m_embeddings.files.lock import folder_lock
from kl3m_embeddings.files.records import Count, Record, check_record
from kl3m_embeddings.files.whole import flush_to_disk, make_folder, sync

MANIFEST = "manifest.jsonl"
REMEDY = "move the folder away, or choose another one"


class InputFile(Record):
    """What a file was when it was read."""

    name: str
    num_bytes: Count
    modified_ns: Count
    sha256: str


class SealedOutput(Record):
    """An output that is whole."""

    output: str
    """Its name below the folder."""
    num_bytes: Count
    sha256: str
    input: InputFile
    counts: dict[str, Count]
    """Of rows, documents, tokens, and the like."""
    skipped: dict[str, Count]
    """Rows that are not in it, by reason."""


class SealedFolder:
    """The outputs of a folder; see `open_sealed`."""

    def __init__(self, folder: Path, outputs: dict[str, SealedOutput]) -> None:
        self.folder = folder
        self.outputs = outputs
        """By the input's name."""

    def seal(self, one: SealedOutput) -> None:
        """Note that an output is whole, durably."""
        with (
            writing(self.folder / MANIFEST, REMEDY),
            (self.folder / MANIFEST).open("ab") as file,
        ):
            file.write(json_line(one.model_dump()))
            flush_to_disk(file)
        self.outputs[one.input.name] = one

    def has(self, name: str) -> bool:
        """Whether the output of this input is there, as long as it was written."""
        one = self.outputs.get(name)
        path = self.folder / one.output if one else None
        return bool(one and path and path.is_file() and path.stat().st_size == one.num_bytes)


@contextmanager
def open_sealed(
    folder: Path, kind: str, settings: Mapping[str, Any], *, what: str
) -> Iterator[SealedFolder]:
    """The folder's outputs, held for this process.

    Args:
        folder: made, if it is not there.
        kind: of the outputs: "chunks".
        settings: what they depend on, as flat JSON; what is there must depend on the same.
        what: this process does, for the message to another one: "chunks a corpus".

    Raises:
        ConfigError: the folder holds something else, or was made with other settings.
        OutputError: it cannot be written.
        RetryError: another process is at work there.
    """
    make_folder(folder, REMEDY)
    with folder_lock(folder / ".lock", what):
        path = folder / MANIFEST
        head = {"kind": kind, "settings": json.loads(json.dumps(settings))}
        lines = _whole_lines(path)
        if not lines:
            _refuse_others(folder)
            with writing(path, REMEDY), path.open("wb") as file:
                file.write(json_line(head))
                flush_to_disk(file)
            sync(folder)
        else:
            _refuse_differences(path, lines[0], head)
        outputs = [
            check_record(f"{path}:{number}", line, SealedOutput, REMEDY)
            for number, line in enumerate(lines[1:], start=2)
        ]
        yield SealedFolder(folder, {one.input.name: one for one in outputs})


def has_changed(path: Path, before: InputFile) -> bool:
    """Whether a file is another one than it was: by size and time; where they differ, by hash."""
    status = path.stat()
    same = (status.st_size, status.st_mtime_ns) == (before.num_bytes, before.modified_ns)
    return not (same or sha256_of_file(path) == before.sha256)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a manifest; one that a crash has torn is cut off, its file is made again."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with writing(path, REMEDY), path.open("r+b") as file:
            file.truncate(len(whole))
            flush_to_disk(file)
    return read_lines(path, REMEDY)


def _refuse_others(folder: Path) -> None:
    """Keep out of a folder that is not empty, and not ours."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    found = sorted(names - {MANIFEST})
    if found:
        raise ConfigError(
            f"{folder}: holds {found[0]!r} and no {MANIFEST}: choose an empty folder, or a new one"
        )


def _refuse_differences(path: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """What is there must depend on the same settings.

    Raises:
        ConfigError: naming each setting that differs.
    """
    if there.get("kind") != wanted["kind"]:
        raise ConfigError(
            f"{path}: of {there.get('kind')}, not {wanted['kind']}: choose another folder"
        )
    before, now = there.get("settings", {}), wanted["settings"]
    lines = [
        f"{path}: {key}: was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if lines:
        raise ConfigError("\n".join([*lines, f"{path.parent}: choose another folder for these"]))
