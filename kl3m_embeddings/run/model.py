"""The model of a run: where it comes from, what is trained, and how it is written out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.counter_random import derive_key
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer, check_masking, load_tokenizer
from kl3m_embeddings.encoder.folder.architecture import (
    check_packing,
    check_vocabulary,
    load_architecture,
)
from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.folder.networks import check_sequence_length, max_sequence_length
from kl3m_embeddings.encoder.folder.opened import OpenedModel, longest_text, open_model
from kl3m_embeddings.encoder.folder.parity import load_opened
from kl3m_embeddings.encoder.folder.sentence_modules import (
    SentenceModules,
    build_embedding_head,
)
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.checkpoint import Base, Checkpoint
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.files.whole import write_whole
from kl3m_embeddings.losses.base import Compared
from kl3m_embeddings.messages import say, warn
from kl3m_embeddings.run.base import base_of, check_same_network, resumed_base
from kl3m_embeddings.tasks.objective import Objective


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """What a run starts from, before any weight is loaded."""

    opened: OpenedModel | None
    """What has the weights: a checkpoint, or what `init_from` names; None: they are drawn."""
    base: Base | None
    """What the run began from, where that is `init_from`."""
    architecture: PretrainedConfig
    settings: Mapping[str, Any]
    """What config.json says."""
    settings_file: Path
    """The folder's config.json, or where its content comes from while it has none."""
    tokenizer: Tokenizer
    max_length: int
    """Tokens of a sample, special ones included."""
    text_length: int
    """Tokens of a text that is embedded: as the task `pairs` cuts it, evaluated and exported."""
    prefixes: tuple[str, str]
    """What is put before queries, and before documents."""
    compared: Compared
    """How vectors are compared, by everything that does."""

    @property
    def modules(self) -> SentenceModules:
        """What it says of pooling, normalisation and prompts."""
        return self.opened.modules if self.opened else SentenceModules()

    @property
    def prompts(self) -> dict[str, str]:
        """Of the exported model: those that it came with, and the prefixes, which come first.

        sentence-transformers puts "document" before documents, whatever else there is, so that
        where there is any prompt both sides are written, empty ones too.
        """
        prompts = dict(self.modules.prompts)
        if any(self.prefixes) or any(prompts.values()):
            prompts |= zip(("query", "document"), self.prefixes, strict=True)
        return prompts

    @property
    def default_prompt(self) -> str:
        """Of the exported model: what is put before a text that is neither query nor document."""
        return self.prompts.get(self.modules.default_prompt_name or "", "")


def open_run_model(folder: Path, training: TrainingConfig, start: Checkpoint | None) -> RunModel:
    """Read all but the weights.

    Args:
        folder: the model folder; without a config.json, that of `init_from` is read.
        training: training.json.
        start: the checkpoint to go on from.
    """
    given = load_tokenizer(training.tokenizer) if training.tokenizer else None
    opened, base, known_length = None, None, None
    if start:
        opened = open_model(start.path, given)
        known_length = start.manifest["identity"]["max_length"]
        if training.init_from:
            base = resumed_base(training.init_from, start, opened.tokenizer)
    elif training.init_from:
        opened = open_model(training.init_from, given)
        known_length = opened.modules.max_seq_length
        base = base_of(opened, given)
    if base and not base.has_tokenizer:
        warn(f"tokenizer: {training.tokenizer} is not that of {base.source}, whose weights know it")
    tokenizer = given or (opened.tokenizer if opened else load_tokenizer(folder))
    path, settings, architecture = read_architecture(folder, opened, start, tokenizer.pad_id)
    check_vocabulary(architecture, tokenizer.vocab_size, path)
    own_length = longest_text(known_length, architecture)
    max_length = training.max_length or own_length
    if max_length is None:
        raise ConfigError(f"max_length: set it: {path} has no limit, and the base names none")
    if training.masks_tokens:
        check_masking(tokenizer)
    check_lengths(training, architecture, max_length, path, own_length)
    modules = opened.modules if opened else SentenceModules()
    normalise = modules.normalise if training.normalise is None else training.normalise
    queries, documents = training.query_prefix, training.document_prefix
    pairs = training.tasks.pairs
    model = RunModel(
        opened=opened,
        base=base,
        architecture=architecture,
        settings=settings,
        settings_file=path,
        tokenizer=tokenizer,
        max_length=max_length,
        text_length=(pairs and pairs.seq_len) or max_length,
        prefixes=(
            modules.query_prompt if queries is None else queries,
            modules.document_prompt if documents is None else documents,
        ),
        compared=Compared(
            similarity=training.similarity or modules.similarity, unit_length=bool(normalise)
        ),
    )
    if pairs or training.eval.pairs or training.eval.tasks:
        check_prefixes(model, "tasks.pairs.seq_len" if pairs and pairs.seq_len else "max_length")
    return model


def read_architecture(
    folder: Path, opened: OpenedModel | None, start: Checkpoint | None, pad_token_id: int
) -> tuple[Path, dict[str, Any], PretrainedConfig]:
    """The folder's config.json, or that of the opened model: where it is, its content, checked."""
    path, theirs = folder / "config.json", opened and opened.transformer / "config.json"
    source = theirs if theirs and not path.exists() else path
    settings, known = read_json_object(source), {}
    if start:
        identity = start.manifest["identity"].items()
        known = {key.removeprefix("config."): one for key, one in identity if "config." in key}
    elif opened and theirs:
        known = read_json_object(theirs)
        check_same_network(path, settings, opened, known)
    architecture = load_architecture(source, pad_token_id=pad_token_id, copied=known)
    return source, settings, architecture


def check_lengths(
    training: TrainingConfig,
    architecture: PretrainedConfig,
    max_length: int,
    path: Path,
    own_length: int | None = None,
) -> None:
    """Raise if the architecture, read from `path`, has no positions for what is asked of it.

    Args:
        training: training.json.
        architecture: of the run.
        max_length: tokens of a sample.
        path: of the architecture's file.
        own_length: the longest text of what the run starts from, which rotary positions may let be
            longer than the architecture's file says.
    """
    longest = max_sequence_length(architecture)
    if longest and own_length:
        longest = max(longest, own_length)
    if longest is None or max_length > longest:
        check_sequence_length(architecture, max_length, path)
    if training.tasks.mlm and training.tasks.mlm.pack:
        check_packing(architecture, path)
    for name, options in training.tasks.embedding().items():
        if options.seq_len and longest and options.seq_len > longest:
            raise ConfigError(
                f"tasks.{name}.seq_len: {options.seq_len} is more than the architecture has "
                f"positions for ({longest})"
            )


def check_prefixes(model: RunModel, length_key: str) -> None:
    """Raise if a prefix leaves no room for a text: all texts of its role would be one."""
    for key, prefix in zip(("query_prefix", "document_prefix"), model.prefixes, strict=True):
        num_tokens = len(model.tokenizer.encode(prefix))
        if num_tokens >= model.text_length - model.tokenizer.num_special:
            raise ConfigError(
                f"{key}: {prefix!r} has {num_tokens} tokens, which leaves none of "
                f"{model.text_length} for a text: shorten it, or raise {length_key}"
            )


def build_objective(
    model: RunModel,
    training: TrainingConfig,
    losses: Mapping[str, nn.Module],
    device: torch.device,
) -> Objective:
    """The encoder with its weights, the tasks' heads and losses, on the device."""
    seed = derive_key(training.seed, "weights") >> 1
    masked = training.masks_tokens
    if model.opened is None:
        encoder = build_encoder(model.architecture, seed=seed, masked_head=masked)
    else:
        encoder = load_opened(
            model.opened, seed=seed, config=model.architecture, masked_head=masked
        )
        if encoder.fresh_parameters:
            warn(f"{model.opened.transformer}: drawn anew: {', '.join(encoder.fresh_parameters)}")
    if training.gradient_checkpointing:
        encoder.enable_gradient_checkpointing()
    objective = Objective(
        encoder,
        pair_head="nsp" in training.tasks.chosen(),
        embedding_head=build_embedding_head(
            model.modules,
            encoder.hidden_size,
            pooling=training.pooling,
            normalise=training.normalise,
        ),
        losses=losses,
        seed=seed,
    )
    check_dims(training, objective.embedding_head.embedding_size)
    return objective.to(device)


def check_dims(training: TrainingConfig, embedding_size: int) -> None:
    """Raise if a Matryoshka dimension is larger than the embedding."""
    asked = {
        f"tasks.{k}.matryoshka_dims": o.matryoshka_dims
        for k, o in training.tasks.embedding().items()
    }
    for key, dims in {**asked, "eval.dims": training.eval.dims}.items():
        if dims and max(dims) > embedding_size:
            raise ConfigError(
                f"{key}: {max(dims)} is larger than the embedding ({embedding_size}): leave it out"
            )


def eval_dims(training: TrainingConfig, embedding_size: int) -> list[int]:
    """Sizes below the full one at which held-out pairs are evaluated, too."""
    asked = training.eval.dims
    if asked is None:
        asked = [
            dim for one in training.tasks.embedding().values() for dim in one.matryoshka_dims or ()
        ]
    return sorted({dim for dim in asked if dim < embedding_size}, reverse=True)


def model_writer(
    folder: Path, objective: Objective, model: RunModel, card: Callable[[TrainState], str]
) -> Callable[[Path, TrainState, Mapping[str, Tensor]], None]:
    """A function that writes the exported model, tokenizer and card included, into a folder.

    Its weights are the objective's by name, gathered from wherever they are. A model folder without
    a config.json gets one now: a start that fails before leaves none for another to stumble over.
    """
    modules = replace(
        model.modules, prompts=model.prompts, similarity_fn_name=model.compared.similarity
    )
    own, config_text = folder / "config.json", model.settings_file.read_text(encoding="utf-8")

    def write(path: Path, state: TrainState, weights: Mapping[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in weights.items()
                if name.startswith(prefix)
            }

        if not own.exists():
            write_whole(own, config_text)
            say(f"{own}: written, the architecture of {model.settings_file.parent}")
        write_model_folder(
            path,
            objective.encoder,
            tokenizer_pad_id=model.tokenizer.pad_id,
            max_length=model.text_length,
            head=objective.embedding_head,
            modules=modules,
            weights=part("encoder.network."),
            head_weights=part("embedding_head."),
        )
        model.tokenizer.save(path, model.text_length)
        (path / "README.md").write_text(card(state), encoding="utf-8")

    return write
