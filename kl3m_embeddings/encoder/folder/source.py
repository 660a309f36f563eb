"""Where a model is: what users write, turned into a folder.

A path is itself. `package:NAME/SUBFOLDER` is a folder inside an installed Python package, so that
weights can come from wherever Python packages come from. Anything else is a name on the hub, whose
settings and safetensors are kept in its cache.
"""

import importlib.util
import re
from pathlib import Path, PureWindowsPath

from kl3m_embeddings.errors import ConfigError

HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)
# Settings, weights, and the vocabularies of older tokenizers.
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


def resolve_source(source: str | Path) -> Path:
    """The folder of a model: `source` itself, inside a Python package, or from the hub.

    Raises:
        ConfigError: There is no such folder, package or hub name.
    """
    name = str(source)
    if name.startswith("package:"):
        return package_folder(name)
    if Path(name).is_dir():
        return Path(name)
    if Path(name).exists() or not HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name}: no such folder: give the folder of a model, or a hub name")
    return hub_folder(name)


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


def hub_folder(name: str) -> Path:
    """The hub's model in the local cache, downloaded first if there is a network."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{name}: no such folder, and not from the hub: check the name, "
            f"or download the model and give its folder ({reason})"
        ) from error


def is_inside(path: str) -> bool:
    """Whether a relative path stays within its folder, by the rules of every system."""
    parts = PureWindowsPath(path)
    return not parts.anchor and ".." not in parts.parts and "\0" not in path
