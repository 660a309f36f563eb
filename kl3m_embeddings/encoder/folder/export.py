"""Writes a folder that AutoModel, AutoModelForMaskedLM and SentenceTransformer open.

The pooling is written with the boolean keys of sentence-transformers before 5.4, and its classes
under the names of that time: later releases still read them, and text-embeddings-inference and vLLM
read nothing else.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from kl3m_embeddings.encoder.embedding_head import ACTIVATIONS, DenseSettings, EmbeddingHead
from kl3m_embeddings.encoder.folder.module_files import POOLING_FLAGS, POOLING_MODES
from kl3m_embeddings.encoder.folder.networks import positions
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules
from kl3m_embeddings.encoder.heads import MASKED_HEADS, Network
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.path_kind import utf8_folder


def write_model_folder(
    folder: Path,
    encoder: MaskedEncoder,
    *,
    tokenizer_pad_id: int,
    max_length: int,
    head: EmbeddingHead | None = None,
    modules: SentenceModules | None = None,
    weights: Mapping[str, Tensor] | None = None,
    head_weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write everything but the tokenizer's files.

    Args:
        folder: Made if it does not exist.
        encoder: What is written.
        tokenizer_pad_id: The `pad_token_id` of the config.json that is written.
        max_length: Texts longer than this, in tokens, are truncated.
        head: What follows the encoder; None: the mean over the tokens.
        modules: Prompts, similarity and truncation; what it says of the head and of lengths is not
            looked at. None: no prompts, the cosine, all dimensions.
        weights: The network's state dict, where the network does not hold its fp32 weights itself.
        head_weights: The head's, likewise.

    Raises:
        ConfigError: The padding or the default prompt does not fit.
    """
    head, modules = head or EmbeddingHead(encoder.hidden_size), modules or SentenceModules()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_fields(encoder, tokenizer_pad_id))
    tensors = stored_tensors(encoder.network, weights or encoder.network.state_dict())
    with utf8_folder(folder) as place:
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    # Where texts become lower case, the tokenizer's own pipeline says so.
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": max_length, "do_lower_case": False},
    )
    write_modules(folder, head, head_weights or head.state_dict())
    settings = {
        "prompts": dict(modules.prompts),
        "default_prompt_name": checked_prompt_name(modules.default_prompt_name, modules.prompts),
        "similarity_fn_name": modules.similarity,
        "truncate_dim": modules.truncate_dim,
    }
    write_json(folder / "config_sentence_transformers.json", settings)


def checked_prompt_name(name: str | None, prompts: Mapping[str, str]) -> str | None:
    """`name`, which sentence-transformers refuses unless a prompt has it."""
    if name is not None and name not in prompts:
        raise ConfigError(
            f"default_prompt_name: {name!r} is not among the prompts: "
            "add it there, or set it to null"
        )
    return name


def config_fields(encoder: MaskedEncoder, pad_token_id: int) -> dict[str, Any]:
    """The config.json of transformers' own class, in fp32, with the tokenizer's padding."""
    model_type = encoder.config.model_type
    if encoder.config.pad_token_id != pad_token_id and positions(encoder.config).from_padding:
        raise ConfigError(
            f"pad_token_id: {model_type} counts positions from it, so it must be the tokenizer's "
            f"({pad_token_id}) from the start, not {encoder.config.pad_token_id}"
        )
    network, config = encoder.network, copy.deepcopy(encoder.config)
    config.pad_token_id = pad_token_id
    config.architectures = [
        MODEL_FOR_MASKED_LM_MAPPING_NAMES[model_type]
        if model_type in MASKED_HEADS and getattr(network, "base_model", None) is not network
        else type(network).__name__
    ]
    fields: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    # Where the weights came from on this machine is nobody else's business.
    fields.pop("_name_or_path", None)
    # transformers before 5 reads the second of these names.
    return {**fields, "dtype": "float32", "torch_dtype": "float32"}


def stored_tensors(network: Network, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fp32 copies of the tensors, each tied one under the name that transformers keeps."""
    return {
        name: float32_copy(tensor)
        for name, tensor in weights.items()
        if name not in network.all_tied_weights_keys
    }


def float32_copy(tensor: Tensor) -> Tensor:
    """The tensor in fp32 on the CPU, sharing memory with no other."""
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


def write_modules(folder: Path, head: EmbeddingHead, weights: Mapping[str, Tensor]) -> None:
    """sentence-transformers' list of modules, and settings and weights of those after the first.

    Args:
        folder: Of the model.
        head: What follows the encoder.
        weights: Its state dict.
    """
    dense_folders = [f"{index + 2}_Dense" for index in range(len(head.dense_settings))]
    modules = {"": "Transformer", "1_Pooling": "Pooling"} | dict.fromkeys(dense_folders, "Dense")
    if head.normalise:
        modules[f"{len(modules)}_Normalize"] = "Normalize"
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules.items())
    ]
    write_json(folder / "modules.json", entries)
    for path in modules:
        (folder / path).mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", pooling_fields(head))
    for index, (path, settings) in enumerate(zip(dense_folders, head.dense_settings, strict=True)):
        write_json(folder / path / "config.json", dense_fields(settings))
        prefix = f"dense.{index}."
        tensors = {
            name.removeprefix(prefix): float32_copy(tensor)
            for name, tensor in weights.items()
            if name.startswith(prefix)
        }
        with utf8_folder(folder) as place:
            save_file(tensors, place / path / "model.safetensors", metadata={"format": "pt"})


def pooling_fields(head: EmbeddingHead) -> dict[str, Any]:
    """The settings of sentence-transformers' Pooling, in the form of every release."""
    flags = {
        flag: POOLING_MODES.get(mode) == head.pooling
        for flag, mode in POOLING_FLAGS.items()
        if mode in POOLING_MODES
    }
    return {"word_embedding_dimension": head.hidden_size, **flags}


def dense_fields(settings: DenseSettings) -> dict[str, Any]:
    """The settings of sentence-transformers' Dense, in the form of every release."""
    activation = ACTIVATIONS[settings.activation]
    return {
        "in_features": settings.in_features,
        "out_features": settings.out_features,
        "bias": settings.bias,
        "activation_function": f"{activation.__module__}.{activation.__name__}",
    }


def write_json(path: Path, value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
