"""What is scored: model folders, their checkpoints, and baselines.

`bm25` and `random` are mteb's own baselines: words in common, and a vector drawn for each text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mteb
import torch
from mteb.abstasks import AbsTask, AbsTaskRetrieval

from kl3m_embeddings.benchmark.aggregates import tasks_with_data
from kl3m_embeddings.benchmark.model import EmbeddingModel
from kl3m_embeddings.encoder.folder.model_paths import ModelPath, model_paths
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.kernels.precision import Precision
from kl3m_embeddings.encoder.text_encoder import TextEncoder

BASELINES = {"bm25": "mteb/baseline-bm25s", "random": "mteb/baseline-random-encoder"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model to score, loaded when its turn comes."""

    name: str
    load: Callable[[], Any]
    check: Callable[[], object] = lambda: None
    """Raises ConfigError where it is plain without its weights that it cannot be loaded."""
    step: int | None = None
    baseline: bool = False
    searches_only: bool = False
    """Whether it ranks documents and has no vectors."""

    def can(self, task: AbsTask) -> bool:
        """Whether the task can be asked of it."""
        return not self.searches_only or all(
            isinstance(one, AbsTaskRetrieval) for one in tasks_with_data(task)
        )


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How models are loaded."""

    device: torch.device
    precision: Precision | None = None
    prompts: Mapping[str, str] | None = None
    """Of queries and documents, in place of the models' own."""
    quiet: bool = False


def candidate_at(where: ModelPath, options: LoadOptions, *, baseline: bool = False) -> Candidate:
    """A model in a folder."""

    def check() -> None:
        # opened anew when its turn comes: the tokenizers of a hundred checkpoints take much memory
        _ = open_model(where.path).config

    def load() -> EmbeddingModel:
        texts = TextEncoder.load(where.path, device=options.device, precision=options.precision)
        modules = texts.model.modules
        own = {"query": modules.query_prompt, "document": modules.document_prompt}
        prompts = {**own, **(options.prompts or {})}
        return EmbeddingModel(name=where.name, texts=texts, prompts=prompts, quiet=options.quiet)

    return Candidate(
        name=where.name,
        load=load,
        check=check,
        step=where.step,
        baseline=baseline,
    )


def baseline_candidate(name: str, options: LoadOptions, warn: Callable[[str], None]) -> Candidate:
    """One of BASELINES, or a model as a baseline."""
    if name not in BASELINES:
        (where,) = model_paths(name, warn)
        return candidate_at(where, options, baseline=True)
    meta = mteb.get_model_meta(BASELINES[name])
    return Candidate(name=name, load=meta.load_model, baseline=True, searches_only=name == "bm25")
