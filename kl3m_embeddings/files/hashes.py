"""SHA-256 of files, one by one and of a whole set."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kl3m_embeddings.errors import DamagedError


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in bounded memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_files(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash of a whole dataset: that of its files' names and hashes, in order of name."""
    lines = "".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify_files(path: Path, info: Mapping[str, Any], remedy: str) -> None:
    """Compare every file that `dataset.json` names with its SHA-256.

    Raises:
        DamagedError: naming the first file that differs or cannot be read.
    """
    for name, file in info["files"].items():
        try:
            found = sha256_of_file(path / name)
        except OSError as error:
            raise DamagedError(
                f"{path / name}: cannot be read: {error.strerror}; {remedy}"
            ) from None
        if found != file["sha256"]:
            raise DamagedError(f"{path / name}: its SHA-256 is not the one recorded; {remedy}")
