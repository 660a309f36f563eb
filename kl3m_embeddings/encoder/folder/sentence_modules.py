"""What a sentence-transformers folder says beside its transformer, and the modules that follow it.

1. modules.json names the modules. Those that can be trained here are, in this order, one
   Transformer, one Pooling, any number of Dense, one Normalize; others are an error.
2. `module_files.py` reads their settings and weights, whichever release wrote them.
3. config_sentence_transformers.json has the prompts.

Reimers and Gurevych, Sentence-BERT (https://arxiv.org/abs/1908.10084).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.encoder.embedding_head import DenseSettings, EmbeddingHead
from kl3m_embeddings.encoder.folder.module_files import (
    PLAIN_MODULE,
    ModuleEntry,
    module_entries,
    read_dense,
    read_plain,
    read_pooling,
    read_tokenizer_length,
    read_transformer_settings,
)
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.messages import warn

KINDS = ("Transformer", "Pooling", "Dense", "Normalize")
ORDER = re.compile(r"Transformer(, Pooling(, Dense)*(, Normalize)?)?")
# names that sentence-transformers looks for
QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(frozen=True, kw_only=True)
class SentenceModules:
    """What a folder says beside its transformer; None where it says nothing.

    Attributes:
        pooling: A name of POOLINGS.
        normalise: Whether the vectors have length 1.
        dense: Settings of the dense layers, in their order.
        dense_weights: Their tensors `linear.weight` and, where there is one, `linear.bias`.
        prompts: Texts that are put before a text, by name.
        default_prompt_name: Of the prompt where none is asked for.
        max_seq_length: Longer texts are truncated, in tokens.
        do_lower_case: Whether texts become lower case first, whatever the tokenizer does.
        similarity_fn_name: How vectors are compared; see `similarity`.
        truncate_dim: How many dimensions are kept; cut after scaling to unit length.
    """

    pooling: str | None = None
    normalise: bool | None = None
    dense: tuple[DenseSettings, ...] = ()
    dense_weights: tuple[Mapping[str, Tensor], ...] = field(default=(), compare=False, repr=False)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    max_seq_length: int | None = None
    do_lower_case: bool = False
    similarity_fn_name: SimilarityName | None = None
    truncate_dim: int | None = None

    @property
    def similarity(self) -> SimilarityName:
        """How vectors are compared: by cosine where nothing is said, as sentence-transformers."""
        return self.similarity_fn_name or "cosine"

    @property
    def query_prompt(self) -> str:
        """What is put before a query."""
        return self._prompt(QUERY_PROMPTS)

    @property
    def document_prompt(self) -> str:
        """What is put before a document."""
        return self._prompt(DOCUMENT_PROMPTS)

    @property
    def default_prompt(self) -> str:
        """What is put before a text that is neither."""
        return self.prompts.get(self.default_prompt_name or "", "")

    def _prompt(self, names: tuple[str, ...]) -> str:
        return next((self.prompts[name] for name in names if name in self.prompts), "")


def read_sentence_modules(folder: Path) -> SentenceModules:
    """Read the modules after the transformer, the prompts, and how texts are cut.

    Args:
        folder: Of a model; a plain transformers folder gives the defaults.

    Raises:
        ConfigError: A file is not what it should be, or says what cannot be trained here.
    """
    entries = module_entries(folder)
    if not entries:
        return SentenceModules(max_seq_length=read_tokenizer_length(folder))
    check_modules(folder / "modules.json", entries)
    transformer = entries[0].folder
    settings = read_transformer_settings(transformer)
    layers = [read_dense(entry.folder) for entry in entries if entry.kind == "Dense"]
    prompts = read_prompts(folder / "config_sentence_transformers.json")
    return SentenceModules(
        pooling=find_pooling(entries, prompts.get("prompts", {})),
        normalise=entries[-1].kind == "Normalize",
        dense=tuple(layer for layer, _ in layers),
        dense_weights=tuple(weights for _, weights in layers),
        max_seq_length=settings.get("max_seq_length") or read_tokenizer_length(transformer),
        do_lower_case=bool(settings.get("do_lower_case")),
        **prompts,
    )


def check_modules(path: Path, entries: list[ModuleEntry]) -> None:
    """Raise unless the modules are those that can be trained, in the order that can."""
    for index, entry in enumerate(entries):
        if not entry.type.startswith("sentence_transformers.") or entry.kind not in KINDS:
            raise ConfigError(
                f"{path}: module {index}: {entry.type!r} cannot be trained here: "
                f"supported are sentence_transformers' {', '.join(KINDS)}"
            )
    kinds = ", ".join(entry.kind for entry in entries)
    if not ORDER.fullmatch(kinds):
        raise ConfigError(
            f"{path}: {kinds}: modules in this order cannot be trained here: supported are one "
            "Transformer, one Pooling, any number of Dense, at most one Normalize"
        )
    last = entries[-1]
    if last.kind == "Normalize" and (last.folder / "config.json").is_file():
        read_plain(last.folder / "config.json", PLAIN_MODULE)


def find_pooling(entries: list[ModuleEntry], prompts: Mapping[str, str]) -> str | None:
    """The name of the pooling, if there is one."""
    for entry in entries:
        if entry.kind == "Pooling":
            pooling, include_prompt = read_pooling(entry.folder)
            # Without a prompt there is nothing to leave out.
            if not include_prompt and any(prompts.values()):
                raise ConfigError(
                    f"{entry.folder / 'config.json'}: include_prompt: false cannot be trained here "
                    "with a prompt: set it to true, or empty the prompts in "
                    "config_sentence_transformers.json"
                )
            return pooling
    return None


def read_prompts(path: Path) -> dict[str, Any]:
    """Those fields of SentenceModules that hold for the whole model; none without the file."""
    if not path.is_file():
        return {}
    settings = read_json_object(path)
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ConfigError(f"{path}: model_type: {kind!r} gives no vectors of texts to train here")
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or any(
        not isinstance(prompt, str | None) for prompt in prompts.values()
    ):
        raise ConfigError(f"{path}: prompts: must be texts by name")
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ConfigError(f"{path}: default_prompt_name: {default!r} is not among the prompts")
    warn_of_document_prompt(path, prompts)
    similarity = settings.get("similarity_fn_name")
    if similarity not in (None, *get_args(SimilarityName)):
        raise ConfigError(
            f"{path}: similarity_fn_name: {similarity!r} is unknown: "
            f"use one of {', '.join(get_args(SimilarityName))}"
        )
    truncate_dim = settings.get("truncate_dim")
    if truncate_dim is not None and (type(truncate_dim) is not int or truncate_dim < 1):
        raise ConfigError(f"{path}: truncate_dim: must be a whole number above 0, or null")
    return {
        "prompts": {name: prompt or "" for name, prompt in prompts.items()},
        "default_prompt_name": default,
        "similarity_fn_name": similarity,
        "truncate_dim": truncate_dim,
    }


def warn_of_document_prompt(path: Path, prompts: Mapping[str, str | None]) -> None:
    """Say where documents get a prompt that sentence-transformers would not put before them.

    Its `encode_document` looks for the same names in turn, but to it every model has a "document",
    an empty one where its files name none.
    """
    name = next((name for name in DOCUMENT_PROMPTS if name in prompts), "document")
    if name != "document" and prompts[name]:
        warn(
            f"{path}: its prompt {name!r} is put before documents here, and left out by "
            'encode_document of sentence-transformers: name it "document", too'
        )


def build_embedding_head(
    modules: SentenceModules,
    hidden_size: int,
    *,
    pooling: str | None = None,
    normalise: bool | None = None,
) -> EmbeddingHead:
    """The modules after the transformer, with their weights.

    Args:
        modules: As they were read.
        hidden_size: Of the encoder.
        pooling: Replaces what was read; None: as read, else `mean`.
        normalise: Replaces what was read; None: as read, else False.

    Raises:
        ConfigError: The dense layers do not fit the encoder.
    """
    head = EmbeddingHead(
        hidden_size,
        pooling=pooling or modules.pooling or "mean",
        dense=modules.dense,
        normalise=bool(modules.normalise if normalise is None else normalise),
    )
    for layer, weights in zip(head.dense, modules.dense_weights, strict=True):
        layer.load_state_dict(weights)
    return head
