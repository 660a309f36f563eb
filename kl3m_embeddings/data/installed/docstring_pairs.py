"""Queries and documents for contrastive training, out of docstrings.

A docstring's first paragraph summarises what the rest explains: the one is the query, the other the
positive. Pairs are split by package, so that held-out ones come from packages never trained on. A
vendored copy (`pip/_vendor/rich/...`) counts as the package it copies.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from kl3m_embeddings.data.installed.docs import Text

VENDOR_FOLDERS = {
    "_vendor",
    "vendor",
    "_vendored",
    "vendored",
    "extern",
    "externals",
    "third_party",
}
MAX_SUMMARY_CHARS = 300
MIN_SUMMARY_WORDS = 3
MIN_BODY_CHARS = 200
HELD_OUT_PERCENT = 10


class Pair(NamedTuple):
    """A summary and what it summarises."""

    id: str
    query: str
    positive: str


def split_pairs(docstrings: Iterable[Text]) -> tuple[list[Pair], list[Pair]]:
    """The pairs in docstrings: those to train on, and those held out."""
    train: list[Pair] = []
    held_out: list[Pair] = []
    for docstring in docstrings:
        if pair := pair_of(docstring):
            (held_out if is_held_out(package_of(docstring.id)) else train).append(pair)
    return train, held_out


def pair_of(docstring: Text) -> Pair | None:
    """The pair in a docstring: None if its summary is long or says little, or the rest is short."""
    summary, _, body = docstring.text.partition("\n\n")
    summary, body = " ".join(summary.split()), body.strip()
    if len(summary) > MAX_SUMMARY_CHARS or len(summary.split()) < MIN_SUMMARY_WORDS:
        return None
    return Pair(docstring.id, summary, body) if len(body) > MIN_BODY_CHARS else None


def package_of(document_id: str) -> str:
    """The package that a file belongs to, whoever ships it: `pip/_vendor/rich/x.py` is rich.

    So is `rich.dist-info/METADATA`: names of distributions are taken for those of packages.
    """
    parts = document_id.partition("::")[0].split("/")
    vendored = [i for i, part in enumerate(parts[:-1]) if part in VENDOR_FOLDERS]
    package = parts[vendored[-1] + 1] if vendored else parts[0]
    package = package.removesuffix(".py").removesuffix(".dist-info")
    return package.lower().replace("-", "_").lstrip("_")


def is_held_out(package: str) -> bool:
    """Whether a package's pairs are for evaluation: a tenth of the packages, by a hash."""
    digest = hashlib.sha256(f"split/{package}".encode()).digest()
    return int.from_bytes(digest[:8]) % 100 < HELD_OUT_PERCENT
