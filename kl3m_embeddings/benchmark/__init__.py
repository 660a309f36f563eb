"""How good embeddings are: tasks of MTEB and of plain files, scored by mteb; baselines beside."""

import os
from pathlib import Path

from kl3m_embeddings.files.cache import cache_folder


def _make_room_for_mteb() -> None:
    """Mteb makes a folder below the home folder when it is imported, which may be read-only.

    Nothing of ours is in it: results go where they were asked for.
    """
    if "MTEB_CACHE" in os.environ:
        return
    try:
        (Path.home() / ".cache" / "mteb").mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        os.environ["MTEB_CACHE"] = str(cache_folder("mteb"))


_make_room_for_mteb()
