"""The files that weights are loaded from, looked at before anything loads them.

Weights are safetensors. What often lies in their place: a Git LFS pointer, a pickle, an index whose
shards were not all fetched, a download that broke off, the web page of an error.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from kl3m_embeddings.errors import DataError, first_line
from kl3m_embeddings.files.path_kind import utf8_folder, why_not
from kl3m_embeddings.files.source import is_inside
from kl3m_embeddings.files.strict_json import JsonError, parse_json

WHOLE = "model.safetensors"
INDEX = f"{WHOLE}.index.json"
OTHER_FORMATS = ("pytorch_model*.bin", "tf_model*.h5", "flax_model*.msgpack", "model*.ckpt*")
"""What transformers and sentence-transformers have called weights that are no safetensors."""
CONVERT = (
    "load the model in transformers or sentence-transformers, where you trust it, and "
    "save_pretrained it anew"
)


def weight_files(folder: Path) -> list[Path]:
    """The files that weights are loaded from: one, or an index and the shards that it names.

    Raises:
        DataError: there are none, or one of them is no safetensors.
    """
    whole, index = folder / WHOLE, folder / INDEX
    if os.path.lexists(whole):  # a link to nothing is told as that
        return [checked(whole)]
    if os.path.lexists(index):
        return [index, *(checked(shard) for shard in shards_of(index))]
    others = sorted(path for names in OTHER_FORMATS for path in folder.glob(names))
    if others:
        raise DataError(
            f"{others[0]}: weights that are no safetensors, which may run code when they are "
            f"loaded: {CONVERT}"
        )
    raise DataError(
        f"{folder}: no {WHOLE}: its weights are missing: fetch them, or if the model has none in "
        f"this form, {CONVERT}"
    )


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, each once.

    Raises:
        DataError: it is no index.
    """
    if why := why_not(index, "file"):
        raise DataError(f"{index}: {why}")
    try:
        shards = parse_json(index.read_bytes())["weight_map"]
        names = sorted(set(shards.values()))
    except (JsonError, KeyError, TypeError, AttributeError):
        names = [""]
    if not all(isinstance(name, str) and name and is_inside(name) for name in names):
        raise DataError(f"{index}: weight_map: must name a file for each weight: fetch it again")
    return [index.parent / name for name in names]


def checked(path: Path) -> Path:
    """A file of weights, whose header says what is in it.

    Raises:
        DataError: it is none.
    """
    if why := why_not(path, "file"):
        remedy = f": {INDEX} names it: fetch it" if why == "no such file" else ""
        raise DataError(f"{path}: {why}{remedy}")
    try:
        with utf8_folder(path.parent) as folder, safe_open(folder / path.name, "pt"):
            return path
    except SafetensorError as error:
        raise DataError(
            f"{path}: no whole safetensors ({first_line(error)}): fetch it again"
        ) from None


def check_finite(place: Path, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raise DataError if a weight of a place is infinite or no number: of use for nothing."""
    for name, weight in weights:
        # a value that is not finite makes the sum so, which is a fraction of the work
        if not weight.sum().isfinite() and not weight.isfinite().all():
            raise DataError(
                f"{place}: {name}: not all of its values are finite: the model is ruined: take "
                "another, or an earlier checkpoint of it"
            )
