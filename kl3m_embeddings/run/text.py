"""The text of a run: its shards, what is trained on and what is held out."""

from dataclasses import dataclass, replace
from pathlib import Path

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.config.training import DatasetConfig, TrainingConfig
from kl3m_embeddings.data.counter_random import derive_key
from kl3m_embeddings.data.samples.corpus import open_corpora
from kl3m_embeddings.data.shards.build import BuildOptions, build_shards
from kl3m_embeddings.data.shards.token_shards import DATASET_FILE, REMEDY, TokenShards
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.errors import ConfigError, DataError
from kl3m_embeddings.evaluation.held_out_text import TextEvaluation, draw_samples
from kl3m_embeddings.files.cache import cache_folder
from kl3m_embeddings.files.verified import verify_once
from kl3m_embeddings.messages import warn
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling

# not `num_eval_samples`: what is trained on must not depend on how often one looks
NUM_HELD_OUT_DOCUMENTS = 1000


@dataclass(frozen=True, kw_only=True)
class RunText:
    """The datasets that a run reads."""

    shards: list[TokenShards]
    train: TextSource
    held_out: TextSource | None
    """None where there are too few documents to hold some out."""


def open_text(training: TrainingConfig, tokenizer: Tokenizer, max_length: int) -> RunText:
    """Open, and where need be build, the datasets of `training`.

    Args:
        training: training.json.
        tokenizer: of the run.
        max_length: tokens of a sample, special ones included.
    """
    if not training.data:
        raise ConfigError("data: no dataset: name one in training.json or with --data NAME=PATH")
    shards = [open_shards(name, one, tokenizer) for name, one in training.data.items()]
    weights = [one.weight for one in training.data.values() if one.weight is not None]
    train, held_out = open_corpora(
        shards,
        weights or None,
        window=max_length - tokenizer.num_special,
        seed=training.seed,
        num_held_out=NUM_HELD_OUT_DOCUMENTS,
    )
    return RunText(
        shards=shards,
        train=TextSource(train, tokenizer, max_length, training.seed),
        held_out=TextSource(held_out, tokenizer, max_length, training.seed) if held_out else None,
    )


def open_shards(name: str, dataset: DatasetConfig, tokenizer: Tokenizer) -> TokenShards:
    """Built shards as they are; raw text through shards built once into the cache."""
    paths = [dataset.path] if isinstance(dataset.path, str) else dataset.path
    if len(paths) == 1 and (Path(paths[0]) / DATASET_FILE).exists():
        shards = TokenShards.open(paths[0])
        if shards.tokenizer_fingerprint != tokenizer.fingerprint:
            raise DataError(
                f"{paths[0]}: built with another tokenizer than the one in training.json; "
                "build it again with `kl3m corpus build --tokenizer ...`"
            )
        verify_once(shards.path, shards.info, REMEDY)
        return replace(shards, name=name)
    key = derive_key(tokenizer.fingerprint, *sorted(str(Path(path).resolve()) for path in paths))
    options = BuildOptions(text_column=dataset.text_column, id_column=dataset.id_column)
    folder = cache_folder("shards") / f"{key:016x}"
    return build_shards(name, paths, tokenizer, folder, options=options, overwrite=True).shards


def text_evaluation(training: TrainingConfig, text: RunText | None) -> TextEvaluation | None:
    """Plain masked language modelling on held-out text; None where nothing masks or is wanted."""
    if text is None or not training.masks_tokens or not training.num_eval_samples:
        return None
    if text.held_out is None:
        warn("too few documents to hold some out: evaluation is on text that is trained on")
    options = training.tasks.mlm or MlmOptions(probability=1.0)
    return draw_samples(
        text.held_out or text.train,
        MaskedLanguageModelling(options.model_copy(update={"pack": False})),
        num_samples=training.num_eval_samples,
        batch_size=training.batch_size,
    )
