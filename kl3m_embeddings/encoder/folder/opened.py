"""A model, opened: all that is known of it before its weights are loaded.

Whoever needs a model (a run that starts from it, a guide, what is scored or embedded with) opens it
once, by `open_model`, and hands the value on.

`fingerprint` names what the vectors of texts depend on, so that two models' results are never
mistaken for each other's. It is made of what the files say, not of their names or places.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import PretrainedConfig

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer, load_tokenizer
from kl3m_embeddings.encoder.folder.architecture import DROPPED, read_config
from kl3m_embeddings.encoder.folder.load import transformer_folder
from kl3m_embeddings.encoder.folder.model_paths import model_paths
from kl3m_embeddings.encoder.folder.module_files import module_entries
from kl3m_embeddings.encoder.folder.networks import positions
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules, read_sentence_modules
from kl3m_embeddings.encoder.folder.weight_files import weight_files
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.hashes import sha256_of_file
from kl3m_embeddings.files.source import resolve_source
from kl3m_embeddings.messages import warn


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model without its weights; see `open_model`."""

    source: str
    """What the user has written."""
    folder: Path
    """Where the model is; of a run of ours, its newest whole checkpoint."""
    transformer: Path
    """Where its config.json and weights are: `folder`, or a folder in it."""
    tokenizer: Tokenizer
    has_own_tokenizer: bool
    """Whether the tokenizer is the one that lies beside the weights."""
    config: PretrainedConfig
    """Its architecture."""
    modules: SentenceModules
    """Pooling and what follows it, prompts, and how texts are cut."""

    @cached_property
    def max_length(self) -> int | None:
        """Tokens of the longest text, special ones included; longer texts are cut. None: never."""
        return longest_text(self.modules.max_seq_length, self.config)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what vectors depend on: weights, architecture, tokenizer, modules, prompts.

        Raises:
            DataError: its weights are missing, or are no safetensors.
        """
        modules, config, tokenizer = self.modules, self.config.to_diff_dict(), self.tokenizer
        dense = [one.folder for one in module_entries(self.folder) if one.kind == "Dense"]
        settings = {
            "weights": named_hashes(weight_files(self.transformer)),
            "dense_weights": [named_hashes(weight_files(folder)) for folder in dense],
            "architecture": {key: config[key] for key in config if key not in DROPPED},
            "tokenizer": tokenizer.text_fingerprint,
            # a tokenizer's own fingerprint does not say what stands around a text
            "frame": [tokenizer.prefix_ids, tokenizer.suffix_ids, tokenizer.pad_id],
            "cuts_left": tokenizer.cuts_left,
            "pooling": modules.pooling,
            "normalise": modules.normalise,
            "dense": [vars(settings) for settings in modules.dense],
            "truncate_dim": modules.truncate_dim,
            "max_length": self.max_length,
            "prompts": [modules.query_prompt, modules.document_prompt, modules.default_prompt],
        }
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def longest_text(said: int | None, config: PretrainedConfig) -> int | None:
    """Tokens of the longest text: as a model's files say, if the architecture has the positions."""
    known = positions(config)
    return shortest(said, known.from_table) if said else known.longest


def shortest(*lengths: int | None) -> int | None:
    """The shortest of the lengths that there are; None: there is none."""
    return min((length for length in lengths if length), default=None)


def named_hashes(files: Sequence[Path]) -> list[tuple[str, str]]:
    """The name of each file with the SHA-256 of its content."""
    return [(file.name, sha256_of_file(file)) for file in files]


def open_model(source: str | Path, tokenizer: Tokenizer | None = None) -> OpenedModel:
    """Read all of a model but its weights.

    Args:
        source: A model folder of ours (its newest whole checkpoint is meant), any transformers or
            sentence-transformers folder, `package:NAME/SUBFOLDER`, or a hub name.
        tokenizer: Instead of the model's own.

    Raises:
        ConfigError: It is no model, lacks a tokenizer, or has modules that are unknown here.
    """
    (where,) = model_paths(str(source), warn)
    folder = resolve_source(where.path)
    transformer = transformer_folder(folder)
    config = read_config(transformer)
    modules = read_sentence_modules(folder)
    has_own_tokenizer = tokenizer is None
    if tokenizer is None:
        tokenizer = load_tokenizer(transformer, of_model=True, lower=modules.do_lower_case)
    check_room(transformer, modules, tokenizer)
    return OpenedModel(
        source=str(source),
        folder=folder,
        transformer=transformer,
        tokenizer=tokenizer,
        has_own_tokenizer=has_own_tokenizer,
        config=config,
        modules=modules,
    )


def check_room(folder: Path, modules: SentenceModules, tokenizer: Tokenizer) -> None:
    """Raise ConfigError if a model's longest text has room for special tokens alone."""
    longest, special = modules.max_seq_length, tokenizer.num_special
    if longest is not None and longest <= special:
        raise ConfigError(
            f"{folder}: its longest text is {longest} tokens, of which {special} are special, so "
            "that all texts would be alike: raise max_seq_length in sentence_bert_config.json, or "
            "model_max_length in tokenizer_config.json"
        )
