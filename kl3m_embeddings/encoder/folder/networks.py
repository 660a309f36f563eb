"""Which of transformers' networks reads an architecture's texts, and how long these may be.

Both are asked of transformers itself. How many positions there are stands in the network, not in
config.json: some count them from behind the padding's id (RoBERTa and its kin), some leave out the
first two (YOSO), and some have no limit (T5's are relative).
"""

import copy
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForTextEncoding,
    PretrainedConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)

from kl3m_embeddings.encoder.heads import MASKED_HEADS
from kl3m_embeddings.errors import ConfigError, first_line

POSITION_TABLE = "position_embeddings"
# What other architectures call it: `embed_positions`, `wpe`.
OF_POSITIONS = re.compile(r"pos(ition)?s?_emb|emb(ed|edding)?s?_pos|wpe")


class Positions(NamedTuple):
    """What an architecture knows of where a token stands."""

    longest: int | None
    """Tokens of the longest sequence; None: there is no limit."""
    from_table: int | None
    """As `longest`, where each position has a vector of its own; None: config.json's number is that
    of the training alone, and rotary or relative positions go on behind it."""
    from_padding: bool
    """Whether positions are counted from the padding's id, which must then stay what it is."""


_KNOWN: dict[str, Positions] = {}
"""By an architecture's settings: building a large network, even an empty one, takes a while."""


def auto_class(config: PretrainedConfig) -> Any:  # noqa: ANN401 - transformers' Auto classes share no type
    """The class of transformers that builds and loads the network, its masked-language head too.

    Raises:
        ConfigError: transformers has no encoder of texts for this architecture.
    """
    kind = config.model_type
    if kind in MASKED_HEADS:
        return AutoModelForMaskedLM
    if is_text(config):
        if kind in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:  # of T5 the encoder alone
            return AutoModelForTextEncoding
        if type(config) in MODEL_MAPPING and not config.is_encoder_decoder:
            network = MODEL_MAPPING[type(config)]
            if getattr(network, "main_input_name", "input_ids") == "input_ids":  # not sound
                return AutoModel
    what = "an encoder-decoder" if config.is_encoder_decoder else "not an encoder of texts"
    raise ConfigError(
        f"model_type {kind!r}: {what}, which cannot be trained or embedded with here: "
        "use an encoder such as BERT, RoBERTa, ModernBERT or T5's"
    )


def is_text(config: PretrainedConfig) -> bool:
    """Whether it has a vocabulary and hidden states of one size."""
    return all(isinstance(getattr(config, key, None), int) for key in ("vocab_size", "hidden_size"))


def max_sequence_length(config: PretrainedConfig) -> int | None:
    """The longest sequence, in tokens, that the architecture has positions for; None: no limit."""
    return positions(config).longest


def check_sequence_length(config: PretrainedConfig, num_tokens: int, path: Path) -> None:
    """Raise if sequences of `num_tokens` do not fit into the architecture's positions."""
    longest = max_sequence_length(config)
    if longest is not None and num_tokens > longest:
        raise ConfigError(
            f"{path}: max_position_embeddings: {config.max_position_embeddings} is too small for "
            f"sequences of {num_tokens} tokens: raise it by {num_tokens - longest}"
        )


def positions(config: PretrainedConfig) -> Positions:
    """The positions of an architecture, which is built once to count them.

    Raises:
        ConfigError: transformers cannot build a network of these settings.
    """
    settings = config.to_json_string(use_diff=False)
    if settings not in _KNOWN:
        _KNOWN[settings] = _counted(config)
    return _KNOWN[settings]


def _counted(config: PretrainedConfig) -> Positions:
    declared = getattr(config, "max_position_embeddings", None)
    limits = [declared] if isinstance(declared, int) and declared > 0 else []
    from_padding = has_table = False
    for name, table in empty_network(config).named_modules():
        weight = getattr(table, "weight", None)
        has_table |= weight is not None and OF_POSITIONS.search(name) is not None
        if name.endswith(POSITION_TABLE) and isinstance(weight, torch.Tensor) and weight.dim() == 2:
            padding_id = getattr(table, "padding_idx", None)
            from_padding |= padding_id is not None
            limits.append(len(weight) - (0 if padding_id is None else padding_id + 1))
    longest = min(limits, default=None)
    return Positions(longest, longest if has_table else None, from_padding)


def empty_network(config: PretrainedConfig) -> nn.Module:
    """The network's modules, without memory for its weights."""
    with torch.device("meta"):
        try:
            network: nn.Module = auto_class(config).from_config(copy.deepcopy(config))
        except Exception as error:  # whatever a class raises where settings do not fit together
            raise ConfigError(
                f"model_type {config.model_type!r}: transformers cannot build it "
                f"({first_line(error)})"
            ) from error
    return network
