"""Reads config.json, strictly: transformers would accept any key and most values in silence.

1. The JSON is read without duplicate keys or NaN.
2. A key is known if it is a field of the architecture's config class, if the architecture's own
   source reads it, or if it is transformers' metadata. Anything else is an error with the nearest
   known name: a person has mistyped it. In a copy of a model's own file it is a warning: widely
   used models have keys of other programs and releases in theirs.
3. What transformers passes over although it means another network is an error (`PLAIN`).
4. transformers checks the types; the values are checked here. All errors are reported at once.
"""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.activations import ACT2FN

from kl3m_embeddings.errors import ConfigError, did_you_mean, first_line
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.messages import warn

# Where a file came from, and its dtype: set anew when a model is written.
DROPPED = {"_name_or_path", "auto_map", "dtype", "torch_dtype", "transformers_version"}
# Written by some release of transformers or for other uses of a model; without effect here.
METADATA = DROPPED | {
    "finetuning_task",
    "gradient_checkpointing",
    "num_labels",
    "output_attentions",
    "reference_compile",
    "repad_logits_with_grad",
    "tie_word_embeddings",
    "tokenizer_class",
    "use_cache",
}
# Where an architecture does not read these, they have no effect if they say this; anything else
# is said of a network that transformers had once, or has for another use.
PLAIN: dict[str, Any] = {
    "add_cross_attention": False,
    "is_decoder": False,
    "position_embedding_type": "absolute",
    "pruned_heads": {},
}
POSITIVE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "embedding_size",
    "initializer_range",
    "layer_norm_eps",
    "norm_eps",
)
# DeBERTa-v2 reads these although its config class does not declare them.
DEBERTA_TYPES = {
    "attention_head_size": int,
    "conv_act": str,
    "conv_groups": int,
    "conv_kernel_size": int,
    "embedding_size": int,
    "norm_rel_ebd": str,
    "pooler_hidden_size": int,
    "position_buckets": int,
    "share_att_key": bool,
}
# What transformers raises where a file holds what it does not expect.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError)
KEY_READ = re.compile(
    r"""\bconfig\.([a-z]\w+)|(?:getattr\(config, |kwargs\.(?:get|pop)\()["'](\w+)"""
)


def load_architecture(
    path: Path, *, pad_token_id: int | None = None, copied: Mapping[str, Any] | None = None
) -> PretrainedConfig:
    """Read and check a config.json.

    Args:
        path: The file.
        pad_token_id: The tokenizer's, which stands for the file's; published ones differ.
        copied: Settings of the model whose file was copied: unknown keys that it has, too, are no
            slip of the pen, and warned of.

    Raises:
        ConfigError: with one line for every error, each naming `path` and the key.
    """
    settings = read_json_object(path)
    model_type = settings.pop("model_type", None)
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"{path}: model_type: {model_type!r} is not an architecture that transformers knows"
            + did_you_mean(str(model_type), CONFIG_MAPPING)
        )
    config_class = CONFIG_MAPPING[model_type]
    known = known_keys(config_class)
    model = copied or {}
    unknown = [key for key in settings if key not in known]
    strays = [key for key in unknown if key in model and model[key] == settings[key]]
    problems = [
        f"{key}: unknown key{did_you_mean(key, sorted(known))}"
        for key in unknown
        if key not in strays
    ]
    problems += plain_problems(config_class, settings)
    if strays:
        warn(f"{path}: without effect, as in the model that it is of: {', '.join(strays)}")
    config, type_problems = checked_types(config_class, settings)
    problems += type_problems
    if config is not None:
        problems += value_problems(config)
        # A setting of a wrong type was replaced by its default, which nothing needs to fit.
        problems += [] if type_problems else relation_problems(config)
    if problems or config is None:
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    if pad_token_id is not None:
        config.pad_token_id = pad_token_id
    config.return_dict = True  # as in `read_config`
    return config


def read_config(folder: Path) -> PretrainedConfig:
    """The architecture of somebody's model, as transformers reads it.

    Raises:
        ConfigError: transformers cannot.
    """
    path = folder / "config.json"
    settings = read_json_object(path)
    if settings.get("quantization_config") is not None:
        raise ConfigError(
            f"{path}: quantization_config: quantised weights cannot be used here: take the model "
            "whose weights they were made of"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as error:
        raise ConfigError(f"{path}: {first_line(error.__cause__ or error)}") from error
    for problem in plain_problems(type(config), settings):
        raise ConfigError(f"{path}: {problem}")
    config.return_dict = True  # how results are handed on is no part of an architecture
    return config


def check_vocabulary(config: PretrainedConfig, tokenizer_vocab_size: int, path: Path) -> None:
    """Raise if the tokenizer has ids that the embeddings have no row for; more rows are fine."""
    if tokenizer_vocab_size > config.vocab_size:
        raise ConfigError(
            f"{path}: vocab_size: {config.vocab_size} is smaller than the tokenizer's "
            f"{tokenizer_vocab_size}: raise it to at least that"
        )


def check_packing(config: PretrainedConfig, path: Path) -> None:
    """Raise ConfigError if documents that share a row would not be encoded as if alone."""
    if config.model_type != "deberta-v2" or config.position_biased_input:
        raise ConfigError(
            f"{path}: tasks.mlm.pack needs a DeBERTa (model_type deberta-v2) with "
            "position_biased_input false: set tasks.mlm.pack to false"
        )


def plain_problems(
    config_class: type[PretrainedConfig], settings: Mapping[str, Any]
) -> Iterator[str]:
    """A message for each setting that transformers passes over though it means another network."""
    read = keys_read(config_class)
    for key, plain in PLAIN.items():
        if key not in read and settings.get(key, plain) not in (plain, None):
            yield (
                f"{key}: {settings[key]!r} is not what transformers computes for "
                f"{config_class.model_type}: it always has {plain!r}"
            )


def known_keys(config_class: type[PretrainedConfig]) -> set[str]:
    """Names that may stand in an architecture's config.json."""
    return {*keys_read(config_class), *METADATA, *PLAIN}


def keys_read(config_class: type[PretrainedConfig]) -> set[str]:
    """Names that the config class declares or that the architecture's source reads."""
    known = {field.name for field in fields(config_class)} | set(config_class.attribute_map)
    module = config_class.__module__
    for name in (module, module.replace(".configuration_", ".modeling_")):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            reads = KEY_READ.findall(Path(spec.origin).read_text(encoding="utf-8"))
            known |= {key for groups in reads for key in groups if key}
    return known


def checked_types(
    config_class: type[PretrainedConfig], settings: dict[str, Any]
) -> tuple[PretrainedConfig | None, list[str]]:
    """The config without the settings of a wrong type, and a message for each of those."""
    settings = {key: value for key, value in settings.items() if key not in DROPPED}
    problems: list[str] = []
    while True:
        try:
            return config_class(**settings), problems
        except StrictDataclassFieldValidationError as error:
            message = str(error.__cause__).split(". Errors:")[0]
            key = next(key for key in settings if f"'{key}'" in message)
            del settings[key]
            message = message.removeprefix("Field ").replace(f"'{key}' ", "", 1)
            message = re.sub(r"<class '(\w+)'>", r"\1", message)
            problems.append(f"{key}: {message}")
        except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
            return None, [*problems, first_line(error.__cause__ or error)]


def value_problems(config: PretrainedConfig) -> Iterator[str]:
    """A message for each value that has the right type but cannot be."""
    # by other names, too, but no properties: those may say "none" in a way of their own (XLNet: -1)
    renamed = {key: getattr(config, key, None) for key in POSITIVE if key in config.attribute_map}
    values = {**vars(config), **renamed}
    for key, value in values.items():
        if key in POSITIVE and value is not None and not value > 0:
            yield f"{key}: must be greater than 0 (it is {value})"
        if key.endswith(("dropout", "dropout_prob")) and value is not None and not 0 <= value < 1:
            yield f"{key}: must be a probability below 1 (it is {value})"
        is_name = key.endswith(("_act", "_activation")) and isinstance(value, str)
        if is_name and value not in ACT2FN:  # `is_gated_act` is a yes or no
            yield f"{key}: unknown activation{did_you_mean(str(value), ACT2FN)}"
    if config.model_type == "deberta-v2":
        yield from deberta_problems(config)


def deberta_problems(config: PretrainedConfig) -> Iterator[str]:
    """A message for each impossible setting that only DeBERTa-v2 has."""
    for key, kind in DEBERTA_TYPES.items():
        value = getattr(config, key, None)
        if value is not None and type(value) is not kind:
            yield f"{key}: must be of type {kind.__name__} (it is {value!r})"
    for term in config.pos_att_type or []:
        if term not in ("c2p", "p2c"):
            yield f"pos_att_type: {term!r} is unknown: use c2p, p2c or both"
    if getattr(config, "norm_rel_ebd", "none") not in ("none", "layer_norm"):
        yield f"norm_rel_ebd: {config.norm_rel_ebd!r} is unknown: use none or layer_norm"
    if getattr(config, "position_buckets", -1) in (0, 1):
        yield f"position_buckets: must be -1 (none) or at least 2 (it is {config.position_buckets})"


def relation_problems(config: PretrainedConfig) -> Iterator[str]:
    """A message for each value that does not fit another one."""
    hidden_size = getattr(config, "hidden_size", 0)
    num_heads = max(getattr(config, "num_attention_heads", 1), 1)
    if hidden_size % num_heads:
        yield f"hidden_size: {hidden_size} is not divisible by num_attention_heads ({num_heads})"
    pad_token_id = getattr(config, "pad_token_id", None)
    if pad_token_id is not None and not 0 <= pad_token_id < config.vocab_size:
        yield f"pad_token_id: {pad_token_id} is no row of the vocabulary"
    if getattr(config, "attention_head_size", None) not in (None, hidden_size // num_heads):
        yield "attention_head_size: must be hidden_size / num_attention_heads: leave it out"
