"""Writes a folder that AutoModel, AutoModelForMaskedLM and SentenceTransformer open.

The pooling is written with the boolean keys of sentence-transformers before 5.4: it still reads
them, and text-embeddings-inference and vLLM read nothing else.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from kl3m_embeddings.encoder.architecture import POSITIONS_AFTER_PADDING
from kl3m_embeddings.encoder.heads import MASKED_HEADS, Network
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.errors import ConfigError


def write_model_folder(
    folder: Path,
    encoder: MaskedEncoder,
    *,
    tokenizer_pad_id: int,
    max_length: int,
    pooling: Literal["mean", "cls"] = "mean",
    normalise: bool = False,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write everything but the tokenizer's files.

    Args:
        folder: Made if it does not exist.
        encoder: What is written.
        tokenizer_pad_id: The `pad_token_id` of the config.json that is written.
        max_length: Texts longer than this, in tokens, are truncated.
        pooling: How sentence-transformers pools.
        normalise: Whether it scales the vectors to unit length.
        weights: The network's state dict, where the network does not hold its fp32 weights itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_fields(encoder, tokenizer_pad_id))
    tensors = stored_tensors(encoder.network, weights or encoder.network.state_dict())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": max_length, "do_lower_case": False},
    )
    write_pooling(folder, encoder.hidden_size, pooling, normalise=normalise)


def config_fields(encoder: MaskedEncoder, pad_token_id: int) -> dict[str, Any]:
    """The config.json of transformers' own class, in fp32, with the tokenizer's padding."""
    model_type = encoder.config.model_type
    if model_type in POSITIONS_AFTER_PADDING and encoder.config.pad_token_id != pad_token_id:
        raise ConfigError(
            f"pad_token_id: {model_type} counts positions from it, so it must be the tokenizer's "
            f"({pad_token_id}) from the start, not {encoder.config.pad_token_id}"
        )
    config = copy.deepcopy(encoder.config)
    config.pad_token_id = pad_token_id
    config.architectures = [
        MODEL_FOR_MASKED_LM_MAPPING_NAMES[model_type]
        if model_type in MASKED_HEADS
        else type(encoder.network).__name__
    ]
    fields: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    # transformers before 5 reads the second of these names.
    return {**fields, "dtype": "float32", "torch_dtype": "float32"}


def stored_tensors(network: Network, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fp32 copies of the tensors, each tied one under the name that transformers keeps."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        for name, tensor in weights.items()
        if name not in network.all_tied_weights_keys
    }


def write_pooling(folder: Path, hidden_size: int, pooling: str, *, normalise: bool) -> None:
    """sentence-transformers' list of modules, and the settings of those after the first."""
    modules = {"": "Transformer", "1_Pooling": "Pooling"}
    if normalise:
        modules["2_Normalize"] = "Normalize"
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules.items())
    ]
    for path in modules:
        (folder / path).mkdir(exist_ok=True)
    settings = {
        "word_embedding_dimension": hidden_size,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    write_json(folder / "1_Pooling" / "config.json", settings)
    write_json(folder / "modules.json", entries)
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def write_json(path: Path, value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
