"""Encoders from a config.json (`build_encoder`) or from a folder with weights (`load_encoder`).

A folder may be transformers', sentence-transformers' or our own. transformers reads its files
(shards, prefixes, renamed keys); what it would pass over in silence, a tensor of another shape or a
missing or surplus layer, is an error here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig

from kl3m_embeddings.encoder.deberta.model import DebertaV2ForMaskedLM
from kl3m_embeddings.encoder.folder.architecture import UNREADABLE, read_config
from kl3m_embeddings.encoder.folder.module_files import module_entries
from kl3m_embeddings.encoder.folder.networks import auto_class
from kl3m_embeddings.encoder.folder.weight_files import check_finite, weight_files
from kl3m_embeddings.encoder.heads import Network
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.encoder.stock.without_padding import speed_up
from kl3m_embeddings.errors import ConfigError, first_line
from kl3m_embeddings.files.path_kind import utf8_folder
from kl3m_embeddings.messages import quiet_transformers


def build_encoder(
    config: PretrainedConfig, *, seed: int, masked_head: bool = True
) -> MaskedEncoder:
    """A freshly initialised fp32 encoder; the same seed gives the same weights.

    Args:
        config: Its `pad_token_id` must already be the tokenizer's: RoBERTa counts positions from
            it.
        seed: Of the weights.
        masked_head: As for `load_encoder`.
    """
    with seeded(seed):
        network: Network = new_network(config)
    return MaskedEncoder(network if masked_head else without_head(network), config)


def new_network(config: PretrainedConfig) -> nn.Module:
    """Our DeBERTa-v2, or transformers' network: with its masked-language head where we know it."""
    if config.model_type == "deberta-v2":
        network = DebertaV2ForMaskedLM(config)
        network.initialise()
        return network
    stock: nn.Module = auto_class(config).from_config(config, dtype=torch.float32)
    speed_up(stock)
    return stock


def without_head(network: Network) -> Network:
    """Transformers' network without its masked-language head; ours, whose head is small, as it is.

    A head that nothing trains would be exported as if it could predict something.
    """
    return network if isinstance(network, DebertaV2ForMaskedLM) else network.base_model


def load_encoder(
    folder: Path,
    *,
    seed: int = 0,
    config: PretrainedConfig | None = None,
    masked_head: bool = True,
    observe: Callable[[Network], None] = lambda _: None,
) -> MaskedEncoder:
    """Load fp32 weights from safetensors; a head that the checkpoint lacks is drawn from `seed`.

    Args:
        folder: transformers', sentence-transformers' or our own.
        seed: Of the weights that the checkpoint lacks; they are listed in `fresh_parameters`.
        config: The architecture that the weights must fit; None: the folder's own.
        masked_head: Whether the masked-language head is wanted.
        observe: Is shown transformers' own network, before it is made fast.

    Raises:
        ConfigError: The folder is missing, or its weights do not fit its config.json.
        DataError: Its weights are missing, no safetensors, or not finite.
    """
    folder = transformer_folder(folder)
    weight_files(folder)  # which transformers would not all tell apart
    with seeded(seed), quiet_transformers():
        config = config or read_config(folder)
        try:
            with utf8_folder(folder) as place:
                model, info = auto_class(config).from_pretrained(
                    place,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
        except (*UNREADABLE, RecursionError, SafetensorError, ImportError) as error:
            raise ConfigError(f"{folder}: {first_line(error)}") from error
        check_weights(str(folder), model, info)
        check_finite(folder, model.named_parameters())
        if any(is_of_pooler(name) for name in info["missing_keys"]):
            model.base_model.pooler = None  # published without it, and nothing reads it
        observe(model)
        network: Network = model
        if config.model_type == "deberta-v2":
            network = new_network(config)
            network.load_state_dict(model.state_dict())
        else:
            speed_up(network)
    if not masked_head:  # and nothing else may be missing
        return MaskedEncoder(without_head(network), config)
    return MaskedEncoder(network, config, tuple(sorted(info["missing_keys"])))


def transformer_folder(folder: Path) -> Path:
    """The folder of the transformer itself, which lies inside some sentence-transformers folders.

    Raises:
        ConfigError: There is no config.json in it.
    """
    entries = module_entries(folder)
    folder = entries[0].folder if entries else folder
    if (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{folder / 'adapter_config.json'}: an adapter cannot be used here: merge it into its "
            "model (peft's merge_and_unload), and save that"
        )
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: no config.json: give a folder that holds a model")
    return folder


def check_weights(source: str, model: Network, info: Mapping[str, Iterable[Any]]) -> None:
    """Raise unless every tensor of the encoder proper was found, with the right shape.

    A network has hundreds of tensors: the first that is at fault is named, the others are counted.
    """
    prefix = f"{model.base_model_prefix}."
    headless = model.base_model is model
    shapes = {
        name: f"shape {tuple(found)}, but {tuple(expected)} by config.json"
        for name, found, expected in info["mismatched_keys"]
    }
    missing = dict.fromkeys(
        (
            name
            for name in info["missing_keys"]
            if (headless or name.startswith(prefix)) and not is_of_pooler(name)
        ),
        "missing from the checkpoint: not the model that config.json describes",
    )
    surplus = dict.fromkeys(
        (
            name
            for name in info["unexpected_keys"]
            if re.search(r"\blayers?\.\d+\.", name) and not is_of_decoder(name, model)
        ),
        "in the checkpoint but not in the model: config.json has too few layers",
    )
    for problems in (shapes, missing, surplus):
        if problems:
            first, others = min(problems), len(problems) - 1
            more = f" (and {others} more)" if others else ""
            raise ConfigError(f"{source}: {first}: {problems[first]}{more}")


def is_of_decoder(name: str, model: Network) -> bool:
    """Whether a weight belongs to the decoder of a model whose encoder alone was asked for."""
    return name.startswith("decoder.") and not hasattr(model, "decoder")


def is_of_pooler(name: str) -> bool:
    """Whether a weight belongs to the layer that BERT's classifiers read, and vectors do not."""
    return "pooler" in name.split(".")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` while inside and leave the global CPU generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
