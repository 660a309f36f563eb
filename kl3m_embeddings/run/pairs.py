"""The pairs of a run: the sets that are trained on, a guide's view of them, and held-out ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.data.pair_sets.build import open_or_build_pair_set
from kl3m_embeddings.data.pair_sets.order import PairOrder
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.shards.token_shards import DATASET_FILE, FileRecord
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.encoder.folder.opened import OpenedModel, open_model
from kl3m_embeddings.errors import ConfigError, DamagedError, DataError
from kl3m_embeddings.evaluation.held_out_pairs import PairEvaluation
from kl3m_embeddings.files.cache import cache_folder
from kl3m_embeddings.files.hashes import sha256_of_file, sha256_of_files
from kl3m_embeddings.files.records import Record, read_record
from kl3m_embeddings.files.verified import verify_once
from kl3m_embeddings.files.whole import whole_file, write_durable_json
from kl3m_embeddings.losses.base import Compared
from kl3m_embeddings.messages import say, warn
from kl3m_embeddings.run.model import RunModel
from kl3m_embeddings.tasks.embedding.guide import guide_embeddings, guide_key
from kl3m_embeddings.tasks.embedding.pairs import PairSource, check_loss

VECTORS_FILE = "vectors.npy"


class VectorsInfo(Record):
    """What `dataset.json` says of a guide's vectors."""

    files: dict[str, FileRecord]
    sha256: str


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


@dataclass(frozen=True, kw_only=True)
class RunPairs:
    """The sets that the task `pairs` trains on; none without it."""

    sets: Sequence[PairSet] = ()
    guide: OpenedModel | None = None
    """Tells false negatives."""

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each set by name; the guide's is in it, for its choice is part of the run."""
        suffix = ""
        if self.guide:
            suffix = f" with guide {guide_key(self.guide)} by {self.guide.modules.similarity}"
        return {one.name: one.sha256 + suffix for one in self.sets}


def open_pairs(
    training: TrainingConfig,
    tokenizer: Tokenizer,
    prefixes: tuple[str, str],
    compared: Compared,
) -> RunPairs:
    """Open, and where need be build, the sets, and check them for what the loss needs."""
    options = training.tasks.pairs
    if options is None or not options.probability:
        return RunPairs()
    if not training.pairs:
        raise ConfigError(
            "pairs: no set of pairs: name one in training.json or with --pairs NAME=PATH"
        )
    sets = [
        open_pair_set(name, one.path, tokenizer, prefixes) for name, one in training.pairs.items()
    ]
    check_loss(options, sets, compared)
    return RunPairs(sets=sets, guide=open_model(options.guide) if options.guide else None)


def pair_source(
    training: TrainingConfig,
    pairs: RunPairs,
    model: RunModel,
    *,
    batch_size: int,
    device: torch.device,
) -> PairSource:
    """The order of the sets' rows, and the guide's vectors of their texts.

    Args:
        training: training.json.
        pairs: what `open_pairs` gave.
        model: of the run.
        batch_size: rows of a micro-batch, over all devices.
        device: where a guide computes.
    """
    options = training.tasks.pairs
    assert options is not None
    weights = [one.weight for one in training.pairs.values() if one.weight is not None]
    order = PairOrder.build(
        pairs.sets,
        weights or None,
        seed=training.seed,
        batch_size=batch_size,
        num_negatives=options.num_negatives,
        max_length=options.seq_len or model.max_length,
    )
    guide = pairs.guide
    guides = [
        None if guide is None else guide_vectors(guide, one, model.tokenizer, device)
        for one in pairs.sets
    ]
    return PairSource(
        order=order,
        tokenizer=model.tokenizer,
        guides=guides,
        guide_similarity=guide.modules.similarity if guide else "cosine",
    )


def guide_vectors(
    guide: OpenedModel, pairs: PairSet, tokenizer: Tokenizer, device: torch.device
) -> Float32[np.ndarray, "texts guide_dim"]:
    """The guide's vectors of a set's texts, computed once into the cache."""
    key = hashlib.blake2b(f"{pairs.sha256} {guide_key(guide)}".encode(), digest_size=8)
    folder = cache_folder("guides") / key.hexdigest()
    path = folder / VECTORS_FILE
    if not has_whole_vectors(folder):
        say(f"{guide.source}: embedding {pairs.num_texts:,} texts of {pairs.name}")
        vectors = guide_embeddings(guide, pairs, tokenizer, device)
        remedy = "make room, or name another cache with KL3M_CACHE"
        with whole_file(path, remedy) as temporary, temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        files = {VECTORS_FILE: {"num_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}}
        info = {"files": files, "sha256": sha256_of_files(files)}
        write_durable_json(folder / DATASET_FILE, info, remedy)
    mapped: Float32[np.ndarray, "texts guide_dim"]
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def has_whole_vectors(folder: Path) -> bool:
    """Whether a guide's vectors are in a folder of the cache, as they were written."""
    file, remedy = folder / DATASET_FILE, "computing them again"
    if not file.exists():
        return False
    try:
        info = read_record(file, VectorsInfo, remedy)
        verify_once(folder, info.model_dump(), remedy)
    except DamagedError as error:
        warn(str(error))
        return False
    return info.files.keys() == {VECTORS_FILE}


def say_what_is_read(sets: Sequence[PairSet], source: PairSource) -> None:
    """Print which formats were recognised, and what is left out."""
    for pairs in sets:
        say("\n".join(pairs.summary()))
    for line in (*source.order.left_out(), *source.order.without_negatives()):
        warn(line)


def pair_evaluations(training: TrainingConfig, model: RunModel) -> list[PairEvaluation]:
    """The held-out pairs of `eval.pairs`; a line is printed on those that are not read whole.

    Raises:
        DataError: no model could be told from another by one of the sets.
    """
    evaluations = [
        PairEvaluation.build(
            name,
            open_pair_set(name, one.path, model.tokenizer, model.prefixes),
            similarity=model.compared.similarity,
            truncate_dim=model.modules.truncate_dim,
            max_rows=one.max_rows,
            max_documents=one.max_documents,
        )
        for name, one in training.eval.pairs.items()
    ]
    for one in evaluations:
        if problem := one.problem():
            paths = training.eval.pairs[one.name].path
            where = paths if isinstance(paths, str) else ", ".join(paths)
            raise DataError(f"eval.pairs.{one.name}: {where}: {problem}")
        if line := one.left_out():
            warn(line)
    return evaluations
