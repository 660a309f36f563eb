"""The cache: what is built once from files, and what is remembered of them."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Where what is built once from files lies: `$KL3M_CACHE/<kind>`."""
    return Path(os.environ.get("KL3M_CACHE", ".cache")) / kind
