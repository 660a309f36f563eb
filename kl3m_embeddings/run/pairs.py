"""The pairs of a run: the sets that are trained on, a guide's view of them, and held-out ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.config.tasks import PairsOptions
from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.pair_sets.build import open_or_build_pair_set
from kl3m_embeddings.data.pair_sets.order import PairOrder
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.encoder.folder.model_paths import initial_folder
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from kl3m_embeddings.files.whole import whole_file
from kl3m_embeddings.messages import say, warn
from kl3m_embeddings.run.text import cache_folder
from kl3m_embeddings.tasks.embedding.guide import guide_embeddings, guide_sha256
from kl3m_embeddings.tasks.embedding.pairs import PairSource, check_loss


def open_pair_set(
    name: str, path: str | list[str], tokenizer: Tokenizer, prefixes: tuple[str, str]
) -> PairSet:
    """A built pair set as it is; files through a pair set built once into the cache."""
    paths = [path] if isinstance(path, str) else path
    return open_or_build_pair_set(
        name,
        paths,
        tokenizer,
        cache_folder("pairs"),
        query_prefix=prefixes[0],
        document_prefix=prefixes[1],
    )


def open_pairs(
    training: TrainingConfig, tokenizer: Tokenizer, prefixes: tuple[str, str]
) -> list[PairSet]:
    """The sets that the task `pairs` trains on, checked for what its loss needs; [] without it.

    With a guide, a set's hash names the guide's, too: a run is another one with another guide.
    """
    options = training.tasks.pairs
    if options is None or not options.probability:
        return []
    if not training.pairs:
        raise ConfigError(
            "pairs: no set of pairs: name one in training.json or with --pairs NAME=PATH"
        )
    sets = [
        open_pair_set(name, one.path, tokenizer, prefixes) for name, one in training.pairs.items()
    ]
    check_loss(options, sets)
    if options.guide is None:
        return sets
    guide = guide_sha256(initial_folder(options.guide))
    return [replace(one, sha256=f"{one.sha256} with guide {guide}") for one in sets]


def pair_source(
    training: TrainingConfig,
    options: PairsOptions,
    sets: Sequence[PairSet],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    batch_size: int,
) -> PairSource:
    """The order of the sets' rows.

    Args:
        training: training.json.
        options: of the task `pairs`.
        sets: what `open_pairs` gave.
        tokenizer: of the run.
        max_length: tokens of a text, special ones included.
        batch_size: rows of a micro-batch, over all devices.
    """
    weights = [one.weight for one in training.pairs.values() if one.weight is not None]
    order = PairOrder.build(
        sets,
        weights or None,
        seed=training.seed,
        batch_size=batch_size,
        num_negatives=options.num_negatives,
        max_length=options.seq_len or max_length,
    )
    guides: list[NDArray[np.float32] | None] = [None] * len(sets)
    if options.guide is not None:
        guides = [_guide(options.guide, pairs, tokenizer) for pairs in sets]
    return PairSource(order=order, tokenizer=tokenizer, guides=guides)


def _guide(guide: str, pairs: PairSet, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """The guide's vectors of a set's texts, computed once into the cache."""
    folder = initial_folder(guide)
    key = hashlib.blake2b(pairs.sha256.encode(), digest_size=8).hexdigest()  # of the guide's, too
    path = cache_folder("guides") / f"{key}.npy"
    if not path.exists():
        say(f"{guide}: embedding {pairs.num_texts:,} texts of {pairs.name}")
        vectors = guide_embeddings(folder, pairs, tokenizer)
        remedy = "make room, or name another cache with KL3M_CACHE"
        with whole_file(path, remedy) as temporary, temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def say_what_is_read(sets: Sequence[PairSet], source: PairSource) -> None:
    """Print which formats were recognised, and what is left out."""
    for pairs in sets:
        say("\n".join(pairs.summary()))
    for line in source.order.left_out():
        warn(line)


def pair_evaluations(
    training: TrainingConfig, tokenizer: Tokenizer, prefixes: tuple[str, str]
) -> list[PairEvaluation]:
    """The held-out pairs of `eval.pairs`; a line is printed on those that are not read whole."""
    evaluations = [
        PairEvaluation.build(
            name,
            open_pair_set(name, one.path, tokenizer, prefixes),
            max_rows=one.max_rows,
            max_documents=one.max_documents,
        )
        for name, one in training.eval.pairs.items()
    ]
    for one in evaluations:
        if line := one.left_out():
            warn(line)
    return evaluations
