"""What is scored: model folders, their checkpoints, and baselines.

`bm25` and `random` are mteb's own baselines: words in common, and a vector drawn for each text.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mteb
import torch
from mteb.abstasks import AbsTask, AbsTaskRetrieval

from kl3m_embeddings.benchmark.model import EmbeddingModel
from kl3m_embeddings.encoder.text_encoder import Precision, TextEncoder
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.strict_json import read_json_object
from kl3m_embeddings.train.checkpoint import (
    CHECKPOINT_NAME,
    checkpoint_steps,
    newest_verified,
    verify,
)

BASELINES = {"bm25": "mteb/baseline-bm25s", "random": "mteb/baseline-random-encoder"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model to score, loaded when its turn comes."""

    name: str
    load: Callable[[], Any]
    step: int | None = None
    baseline: bool = False
    searches_only: bool = False
    """Whether it ranks documents and has no vectors."""

    def can(self, task: AbsTask) -> bool:
        """Whether the task can be asked of it."""
        return isinstance(task, AbsTaskRetrieval) or not self.searches_only


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How models are loaded."""

    device: torch.device
    precision: Precision | None = None
    prompts: Mapping[str, str] | None = None
    """Of queries and documents, in place of the models' own."""
    quiet: bool = False


def candidates_of(source: str, options: LoadOptions, *, all_checkpoints: bool) -> list[Candidate]:
    """The model that `source` names: a folder of a run stands for its newest checkpoint, or all.

    Raises:
        ConfigError: It is a run without a checkpoint.
    """
    folder = Path(source)
    if not is_run(folder):
        name, step = name_and_step(source)
        return [one_candidate(name, source, options, step)]
    if all_checkpoints:
        steps = sorted(checkpoint_steps(folder))
        checkpoints = [verify(folder / f"checkpoint-{step}") for step in steps]
    else:
        newest = newest_verified(folder, logging.getLogger(__name__).warning)
        checkpoints = [newest] if newest else []
    if not checkpoints:
        raise ConfigError(f"{folder}: has no checkpoint: train it first")
    name = folder.resolve().name
    return [one_candidate(name, str(one.path), options, one.step) for one in checkpoints]


def is_run(folder: Path) -> bool:
    """Whether it is a model folder that is trained, not a model that is used."""
    return (folder / "training.json").is_file()


def name_and_step(source: str) -> tuple[str, int | None]:
    """What a model is called; a checkpoint has its run's name, for all runs have the same steps."""
    place = Path(source).resolve()
    found = CHECKPOINT_NAME.fullmatch(place.name)
    if found and is_run(place.parent):
        return place.parent.name, int(found[1])
    return model_name(source), None


def model_name(source: str) -> str:
    """What a model is called in tables: its folder's name, or a package's, or the hub's."""
    if source.startswith("package:"):
        return source.removeprefix("package:").partition("/")[0]
    return Path(source).resolve().name if Path(source).is_dir() else source


def one_candidate(name: str, path: str, options: LoadOptions, step: int | None = None) -> Candidate:
    """A folder with a model."""

    def load() -> EmbeddingModel:
        texts = TextEncoder.load(path, device=options.device, precision=options.precision)
        own = {"query": texts.modules.query_prompt, "document": texts.modules.document_prompt}
        return EmbeddingModel(
            name=name, texts=texts, prompts={**own, **(options.prompts or {})}, quiet=options.quiet
        )

    return Candidate(name=name, load=load, step=step)


def baseline_candidates(names: list[str], options: LoadOptions) -> list[Candidate]:
    """Baselines by name, and models as baselines."""
    found = []
    for name in names:
        if name in BASELINES:
            meta = mteb.get_model_meta(BASELINES[name])
            found.append(
                Candidate(
                    name=name,
                    load=meta.load_model,
                    baseline=True,
                    searches_only=name == "bm25",
                )
            )
        else:
            (model,) = candidates_of(name, options, all_checkpoints=False)
            found.append(
                Candidate(name=model.name, load=model.load, step=model.step, baseline=True)
            )
    return found


def untouched_base(folder: Path) -> str | None:
    """The model that a run started from, if it started from one."""
    path = folder / "training.json"
    source = read_json_object(path).get("init_from") if path.is_file() else None
    return source if isinstance(source, str) else None
