"""Writes the default corpus: five JSONL files of what `installed_docs` finds on this machine.

Packages whose pairs are held out are in no other file, so that nothing of them is ever trained on.
A README and a licence count to the package that is called as their distribution.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kl3m_embeddings.data.installed.docs import (
    DOCSTRINGS,
    Text,
    extract_installed_docs,
    installed_roots,
)
from kl3m_embeddings.data.installed.docstring_pairs import is_held_out, package_of, split_pairs
from kl3m_embeddings.files.whole import whole_file

HELD_OUT = "documents of held-out packages"
REMEDY = "make room, or name another folder"


class WrittenFile(NamedTuple):
    """One of the files, and how much is in it."""

    path: Path
    num_rows: int
    num_bytes: int


def write_default_corpus(out: Path) -> tuple[list[WrittenFile], Mapping[str, int]]:
    """Write docstrings, licences, readmes (`id, text`) and pairs (`id, query, positive`).

    Returns:
        The files, and the counts of what was skipped by reason.

    Raises:
        OutputError: the folder cannot be written.
    """
    found = extract_installed_docs(installed_roots())
    rows_of: dict[str, list[dict[str, object]]] = {
        name: [text._asdict() for text in texts if not _is_held_out(text)]
        for name, texts in found.texts.items()
    }
    num_held_out = sum(_is_held_out(text) for texts in found.texts.values() for text in texts)
    skipped = {**found.skipped, HELD_OUT: num_held_out}
    train, held_out = split_pairs(found.texts[DOCSTRINGS])
    for name, pairs in (("pairs", train), ("pairs_heldout", held_out)):
        rows_of[name] = [
            {"id": pair.id, "query": pair.query, "positive": [pair.positive]} for pair in pairs
        ]
    files = [_write_jsonl(out / f"{name}.jsonl", rows) for name, rows in rows_of.items()]
    return files, skipped


def _is_held_out(text: Text) -> bool:
    return is_held_out(package_of(text.id))


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> WrittenFile:
    num_rows = 0
    with whole_file(path, REMEDY) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            num_rows += 1
    return WrittenFile(path, num_rows, path.stat().st_size)
