"""The model of a run: where it comes from, what is trained, and how it is written out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

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
from kl3m_embeddings.encoder.folder.opened import OpenedModel, open_model, shortest
from kl3m_embeddings.encoder.folder.parity import load_opened
from kl3m_embeddings.encoder.folder.sentence_modules import (
    SentenceModules,
    build_embedding_head,
)
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.checkpoint import Checkpoint
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.losses.base import Compared
from kl3m_embeddings.messages import say, warn
from kl3m_embeddings.tasks.objective import Objective


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """What a run starts from, before any weight is loaded."""

    opened: OpenedModel | None
    """What has the weights: a checkpoint, or what `init_from` names; None: they are drawn."""
    architecture: PretrainedConfig
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


def open_run_model(folder: Path, training: TrainingConfig, start: Checkpoint | None) -> RunModel:
    """Read all but the weights.

    Args:
        folder: the model folder; a missing config.json is written there from `init_from`.
        training: training.json.
        start: the checkpoint to go on from.
    """
    tokenizer = load_tokenizer(training.tokenizer) if training.tokenizer else None
    initial = open_model(training.init_from, tokenizer) if training.init_from else None
    tokenizer = tokenizer or (initial.tokenizer if initial else load_tokenizer(folder))
    opened = open_model(start.path, tokenizer) if start else initial
    path = folder / "config.json"
    if opened and not path.exists():
        path.write_bytes((opened.transformer / "config.json").read_bytes())
        say(f"{path}: written, the architecture of {training.init_from}")
    base = read_json_object(initial.transformer / "config.json") if initial else None
    architecture = load_architecture(path, pad_token_id=tokenizer.pad_id, copied=base)
    check_vocabulary(architecture, tokenizer.vocab_size, path)
    # not of the checkpoint to go on from, which has `text_length`
    known_length = initial.modules.max_seq_length if initial else None
    max_length = training.max_length or shortest(known_length, max_sequence_length(architecture))
    if max_length is None:
        raise ConfigError(f"max_length: set it: {path} has no limit, and the base names none")
    if training.masks_tokens:
        check_masking(tokenizer)
    check_lengths(training, architecture, max_length, path)
    modules = opened.modules if opened else SentenceModules()
    normalise = modules.normalise if training.normalise is None else training.normalise
    queries, documents = training.query_prefix, training.document_prefix
    pairs = training.tasks.pairs
    model = RunModel(
        opened=opened,
        architecture=architecture,
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


def check_lengths(
    training: TrainingConfig, architecture: PretrainedConfig, max_length: int, path: Path
) -> None:
    """Raise if the architecture, read from `path`, has no positions for what is asked of it."""
    check_sequence_length(architecture, max_length, path)
    if training.tasks.mlm and training.tasks.mlm.pack:
        check_packing(architecture, path)
    longest = max_sequence_length(architecture)
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
    objective: Objective, model: RunModel, card: Callable[[TrainState], str]
) -> Callable[[Path, TrainState, Mapping[str, Tensor]], None]:
    """A function that writes the exported model, tokenizer and card included, into a folder.

    Its weights are the objective's by name, gathered from wherever they are.
    """
    modules = replace(
        model.modules, prompts=model.prompts, similarity_fn_name=model.compared.similarity
    )

    def write(path: Path, state: TrainState, weights: Mapping[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in weights.items()
                if name.startswith(prefix)
            }

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
