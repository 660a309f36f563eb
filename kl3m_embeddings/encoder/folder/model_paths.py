"""Where the models are that a person names: a run stands for its newest checkpoint, or for all."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.checkpoint import CHECKPOINT_NAME, newest_verified, whole_checkpoints


class ModelPath(NamedTuple):
    """A model as tables call it, and its folder (or package, or hub name)."""

    name: str
    path: str
    step: int | None = None
    """Of a checkpoint."""


def model_paths(
    source: str, warn: Callable[[str], None], *, all_checkpoints: bool = False
) -> list[ModelPath]:
    """The models that `source` names; damaged checkpoints are told to `warn`.

    Raises:
        ConfigError: It is a run without a checkpoint.
    """
    folder = Path(source)
    if not is_run(folder):
        name, step = name_and_step(source)
        return [ModelPath(name, source, step)]
    if all_checkpoints:
        checkpoints = [*whole_checkpoints(folder, warn, "it is left out")][::-1]
    else:
        newest = newest_verified(folder, warn)
        checkpoints = [newest] if newest else []
    if not checkpoints:
        raise ConfigError(f"{folder}: has no checkpoint: train it first")
    name = folder.resolve().name
    return [ModelPath(name, str(one.path), one.step) for one in checkpoints]


def check_unique(places: Iterable[tuple[str, int | None]]) -> None:
    """Raise if two models, of these names and steps, would be one in the tables.

    Raises:
        ConfigError: two would be.
    """
    twice = [name for (name, _), times in Counter(places).items() if times > 1]
    if twice:
        raise ConfigError(f"{twice[0]}: given twice: leave one out, or rename its folder")


def is_run(folder: Path) -> bool:
    """Whether it is a model folder that is trained, not a model that is used."""
    return (folder / "training.json").is_file()


def name_and_step(source: str) -> tuple[str, int | None]:
    """What a model is called; a checkpoint has its run's name, for all runs have the same steps."""
    place = Path(source).resolve()
    found = CHECKPOINT_NAME.fullmatch(place.name)
    if found and is_run(place.parent):
        return place.parent.name, int(found[1])
    return model_name(source), None


def model_name(source: str) -> str:
    """What a model is called in tables: its folder's name, or a package's, or the hub's."""
    if source.startswith("package:"):
        return source.removeprefix("package:").partition("/")[0]
    return Path(source).resolve().name if Path(source).is_dir() else source
