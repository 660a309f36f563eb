"""What a run is: resuming with another seed, other data or another architecture is refused."""

from collections.abc import Mapping
from typing import Any

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.encoder.folder.same_architecture import all_settings
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.errors import ConfigError

BY_CONTENT = "tasks.pairs.guide"
"""A name of something whose content is compared."""
CONFIG = "config."


def run_identity(
    training: TrainingConfig,
    architecture: Mapping[str, Any],
    datasets: Mapping[str, str],
    pair_sets: Mapping[str, str],
    tokenizer_fingerprint: str,
    *,
    base: str | None,
    max_length: int,
    world_size: int,
    similarity: str,
) -> dict[str, Any]:
    """Everything that must stay the same for a resumed run to be the same run, as flat JSON.

    Args:
        training: training.json.
        architecture: config.json as a mapping.
        datasets: SHA-256 of each named dataset's shards.
        pair_sets: SHA-256 of each named set of pairs, prefixes included, and of the guide.
        tokenizer_fingerprint: hash of what determines ids.
        base: fingerprint of the model that the run began from; None: random weights.
        max_length: tokens of a sample.
        world_size: number of devices.
        similarity: by which vectors are compared.
    """
    values = {
        "seed": training.seed,
        "tokenizer": tokenizer_fingerprint,
        "global_batch_size": training.batch_size * world_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "max_length": max_length,
        "precision": training.precision,
        "optimizer.name": training.optimizer.name,
        "optimizer.max_grad_norm_window": training.optimizer.max_grad_norm_window,
        "matroyshka_probability": training.matroyshka_probability,
        "matroyshka_min_log2": training.matroyshka_min_log2,
        "init_from": base,
    }
    for name, options in training.tasks.chosen().items():
        values |= {f"tasks.{name}.{key}": value for key, value in options.model_dump().items()}
    if training.tasks.embedding():
        values |= {
            "pooling": training.pooling,
            "normalise": training.normalise,
            "similarity": similarity,
        }
    weights = {name: one.weight for name, one in training.data.items()}
    values |= _sources("data", datasets, weights)
    if pair_sets:
        weights = {name: one.weight for name, one in training.pairs.items()}
        values |= _sources("pairs", pair_sets, weights)
    values.pop(BY_CONTENT, None)
    return values | {f"{CONFIG}{key}": value for key, value in architecture.items()}


def _sources(
    key: str, hashes: Mapping[str, str], weights: Mapping[str, float | None]
) -> dict[str, Any]:
    """What is read; the order of the samples depends on that of the sources."""
    values: dict[str, Any] = {key: list(hashes)}
    for name, sha256 in hashes.items():
        values |= {f"{key}.{name}": sha256, f"{key}.{name}.weight": weights[name]}
    return values


def refuse_changes(recorded: Mapping[str, Any], present: Mapping[str, Any], folder: str) -> None:
    """Compare what a checkpoint recorded with the present settings.

    An architecture is compared by what it means: a default that is written out is no change.

    Raises:
        ConfigError: listing every difference.
    """
    recorded, present = _comparable(recorded), _comparable(present)
    changed = sorted(
        key for key in recorded.keys() | present.keys() if recorded.get(key) != present.get(key)
    )
    if changed:
        lines = [f"{key}: was {recorded.get(key)!r}, is {present.get(key)!r}" for key in changed]
        remedy = "undo the change, or start a new run with --restart or in another folder"
        raise ConfigError(
            "\n".join([f"{folder}: this run cannot go on with other settings; {remedy}:", *lines])
        )


def _comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
    values = {key: identity[key] for key in identity if not key.startswith(CONFIG)}
    values.pop(BY_CONTENT, None)
    settings = {
        key.removeprefix(CONFIG): identity[key] for key in identity if key.startswith(CONFIG)
    }
    return values | {f"{CONFIG}{key}": one for key, one in all_settings(settings).items()}


def refuse_differences(ranks: Ranks, seen: Mapping[str, Any]) -> None:
    """Compare what the ranks see of the run they are about to go on with.

    Raises:
        ConfigError: naming what differs.
    """
    for rank, other in enumerate(ranks.gather(dict(seen))):
        keys = seen.keys() | other.keys()
        different = sorted(key for key in keys if seen.get(key) != other.get(key))
        if different:
            raise ConfigError(
                f"ranks {ranks.rank} and {rank} do not see the same run ({', '.join(different)}): "
                "give every machine the same model folder, data and tokenizer"
            )
