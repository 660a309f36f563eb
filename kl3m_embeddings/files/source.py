"""Where a model or a tokenizer is: what users write, turned into a folder.

A path is itself. `package:NAME/SUBFOLDER` is a folder inside an installed Python package, so that
weights can come from wherever Python packages come from. Anything else is a name on the hub, whose
files are kept in its cache: a model's settings and safetensors, or the files of a tokenizer alone.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Literal

from kl3m_embeddings.errors import ConfigError, first_line
from kl3m_embeddings.files.path_kind import why_not

Kind = Literal["model", "tokenizer"]

HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "*.model")
"""Files of tokenizers from before `tokenizer.json`."""
HUB_FILES: Mapping[Kind, tuple[str, ...]] = {
    "model": ("*.json", "*.safetensors", "*.txt", "*.model"),
    "tokenizer": (
        "config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        *VOCABULARIES,
    ),
}


def resolve_source(source: str | Path, kind: Kind = "model") -> Path:
    """The folder that `source` names: itself, inside a Python package, or from the hub.

    Args:
        source: A folder, `package:NAME/SUBFOLDER`, or a hub name.
        kind: What is looked for: which files are fetched from the hub, and what errors call it.

    Raises:
        ConfigError: There is no such folder, package or hub name.
    """
    name = str(source)
    if name.startswith("package:"):
        return package_folder(name)
    why = why_not(name, "folder")
    if why is None:
        return Path(name)
    if os.path.lexists(name) or not HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name}: {why}: give the folder of a {kind}, or a hub name")
    return hub_folder(name, kind)


def package_folder(source: str) -> Path:
    """The folder that `package:NAME/SUBFOLDER` names; the package is found, not imported."""
    name, _, subfolder = source.removeprefix("package:").partition("/")
    if not name.isidentifier() or not is_inside(subfolder):
        raise ConfigError(f"{source}: must be package:NAME/SUBFOLDER, as in package:my_model/model")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{source}: the Python package {name} is not installed: "
            f"pip install {name.replace('_', '-')}, or give a folder"
        )
    folders = [Path(root) / subfolder for root in spec.submodule_search_locations]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise ConfigError(f"{source}: the package has no such folder: {folders[0]}")


def hub_folder(name: str, kind: Kind) -> Path:
    """The hub's files in the local cache, downloaded first if there is a network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES[kind])))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name}: no such folder, and not from the hub: check the name, "
            f"or download the {kind} and give its folder ({first_line(error)})"
        ) from error


def is_inside(path: str) -> bool:
    """Whether a relative path stays within its folder, by the rules of every system."""
    parts = PureWindowsPath(path)
    return not parts.anchor and ".." not in parts.parts and "\0" not in path
