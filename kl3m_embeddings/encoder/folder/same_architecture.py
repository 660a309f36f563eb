"""Whether two config.json files describe one network, by what they mean, however it is written.

A key that is left out has its default, aliases have one name, and what says nothing of a network
(where a file came from, the padding, which is the tokenizer's) does not count.
"""

import json
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from kl3m_embeddings.encoder.folder.architecture import (
    DROPPED,
    METADATA,
    checked_types,
    known_keys,
)

OF_TRAINING = ("dropout", "dropout_prob", "token_id", "initializer_range", "initializer_factor")
"""How names end that change how a network is trained or fed, and not what it computes."""


def all_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of the architecture, those that a config.json leaves out with their defaults.

    Args:
        settings: of a config.json. An unknown architecture's are given back as they are.
    """
    model_type = settings.get("model_type")
    if model_type not in CONFIG_MAPPING:
        return dict(settings)
    config_class = CONFIG_MAPPING[model_type]
    own = {key: value for key, value in settings.items() if key != "model_type"}
    config, _ = checked_types(config_class, own)
    if config is None:
        return dict(settings)
    filled = json.loads(config.to_json_string(use_diff=False))
    no_part = {*DROPPED, "architectures", "pad_token_id"}
    known = known_keys(config_class) | {"model_type"}
    return {key: filled[key] for key in filled if key in known and key not in no_part}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings of two config.json files that differ, each with both values."""
    one, other = all_settings(ours), all_settings(theirs)
    keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return {key: (one.get(key), other.get(key)) for key in keys}


def changes_network(key: str) -> bool:
    """Whether weights trained with one value of it compute something else with another."""
    no_part = METADATA | PretrainedConfig().to_dict().keys() - {"model_type"}
    return not key.endswith(OF_TRAINING) and key not in no_part
