"""The model that a run starts from, `init_from`: known by its content, wherever it lies.

A checkpoint has all that a run needs to go on, and records what the run began from. The model may
have moved meanwhile, be written otherwise, or be gone; another one is refused by its fingerprint.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer, load_tokenizer
from kl3m_embeddings.encoder.folder.opened import OpenedModel, open_model
from kl3m_embeddings.encoder.folder.same_architecture import changes_network, differences
from kl3m_embeddings.errors import ConfigError, UserError
from kl3m_embeddings.files.checkpoint import Base, Checkpoint
from kl3m_embeddings.messages import say, warn

UNDO = "undo the change, or start a new run with --restart or in another folder"


def base_of(opened: OpenedModel, given: Tokenizer | None) -> Base:
    """What a run is about to begin from, with a tokenizer of its own or the model's."""
    return Base(
        source=opened.source,
        fingerprint=opened.fingerprint,
        has_tokenizer=given is None or is_tokenizer_of(opened, given),
    )


def is_tokenizer_of(opened: OpenedModel, given: Tokenizer) -> bool:
    """Whether a tokenizer gives the ids that the model knows; true, too, if it brings none."""
    try:
        own = load_tokenizer(opened.transformer)
    except ConfigError:
        return True
    special = [(one.cls_id, one.sep_id, one.pad_id, one.mask_id) for one in (own, given)]
    return own.fingerprint == given.fingerprint and special[0] == special[1]


def resumed_base(init_from: str, start: Checkpoint, tokenizer: Tokenizer) -> Base:
    """What a run that goes on began from.

    Args:
        init_from: as it is named now; looked into if it is named otherwise, or a folder here.
        start: the checkpoint to go on from.
        tokenizer: of the run.

    Raises:
        ConfigError: it is named otherwise, and is another model; or the run began from none.
    """
    known = start.base
    if known is None:  # perhaps of a release that knew models by their names
        name = start.manifest["identity"].get("init_from")
        if name is None:
            raise ConfigError(f"init_from: {init_from}: this run began from random weights: {UNDO}")
        known = Base(source=str(name), fingerprint=str(name))
    is_renamed = init_from != known.source
    is_known_by_name = known.fingerprint == known.source
    if not is_renamed and (is_known_by_name or not Path(init_from).is_dir()):
        return known
    found = fingerprint_now(init_from, tokenizer)
    if found == known.fingerprint:
        return replace(known, source=init_from)
    if is_renamed and found is not None:
        raise ConfigError(
            f"init_from: {init_from} is not the model that this run began from, {known.source}: "
            f"{UNDO}"
        )
    what = "cannot be opened" if found is None else "has changed since the run began"
    warn(f"init_from: {init_from} {what}: going on from the checkpoint, which needs it no more")
    return known


def fingerprint_now(source: str, tokenizer: Tokenizer) -> str | None:
    """That of the model which is there now; None if it cannot be opened."""
    try:
        return open_model(source, tokenizer).fingerprint
    except UserError:
        return None


def check_same_network(
    path: Path, settings: Mapping[str, Any], opened: OpenedModel, base: Mapping[str, Any]
) -> None:
    """Raise if a folder's config.json would make another network of a model's weights.

    Args:
        path: of the folder's config.json.
        settings: what is in it.
        opened: the model.
        base: what is in the model's own config.json.

    Raises:
        ConfigError: naming the settings, with both values.
    """
    found = differences(settings, base)
    said = {key: f"{key} is {ours!r}, not {its!r}" for key, (ours, its) in found.items()}
    if wrong := [line for key, line in said.items() if changes_network(key)]:
        raise ConfigError(
            f"{path}: not the architecture of init_from, {opened.source}: {'; '.join(wrong)}: "
            "delete the file, and it is taken from there, or name a model that fits it"
        )
    if said:
        say(f"{path}: stands, unlike that of {opened.source}: {'; '.join(said.values())}")
