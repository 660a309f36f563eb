"""A model as mteb asks for it: texts in, vectors out, in any of their variants.

Every text of a task is encoded once; variants are made of the vectors kept. `forget` drops them
when the next task begins.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.similarity_functions import select_pairwise_similarity, select_similarity
from mteb.types import PromptType
from tqdm import tqdm

from kl3m_embeddings.benchmark.local_tasks import LOCAL_TASKS
from kl3m_embeddings.benchmark.variants import Variant
from kl3m_embeddings.encoder.text_encoder import TextEncoder

REVISION_CHARS = 16


@dataclass
class EmbeddingModel:
    """mteb's EncoderProtocol over a `TextEncoder`."""

    name: str
    texts: TextEncoder
    prompts: Mapping[str, str]
    """Put before queries and before documents."""
    variant: Variant = field(default_factory=Variant)
    task_prompts: Mapping[str, str] | None = None
    """Those of the task in hand, which come before the model's."""
    quiet: bool = False
    _rows: dict[bytes, int] = field(default_factory=dict)
    _vectors: list[Float32[np.ndarray, "texts size"]] = field(default_factory=list)

    @property
    def revision(self) -> str:
        """Names weights, settings and prompts: models that differ in any never share a score."""
        prompts = {
            "query": "",
            "document": "",
            **self.prompts,
            "default": self.texts.model.modules.default_prompt,
        }
        settings = json.dumps([prompts, self._scoring.value], sort_keys=True)
        digest = hashlib.sha256(f"{self.texts.fingerprint}{settings}".encode())
        return digest.hexdigest()[:REVISION_CHARS]

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb files results under."""
        return ModelMeta.create_empty().model_copy(
            update={
                "name": self.name,
                "revision": self.revision,
                "embed_dim": self.texts.embedding_size,
                "max_tokens": self.texts.model.max_length,
                "similarity_fn_name": self._scoring,
                "experiment_kwargs": self.variant.settings,
            }
        )

    def encode(
        self,
        inputs: Any,  # noqa: ANN401 - a DataLoader of batches
        *,
        prompt_type: PromptType | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Float32[np.ndarray, "texts dim"]:
        """Vectors of the texts in a loader's batches."""
        prompt = self.prompt(prompt_type)
        texts = [prompt + text for batch in inputs for text in batch["text"]]
        keys = [
            hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
            for text in texts
        ]
        missing = {
            key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows
        }
        if missing:
            with tqdm(
                total=len(missing), unit=" texts", desc="encoding", leave=False, disable=self.quiet
            ) as bar:
                self._vectors.append(self.texts.encode(list(missing.values()), on_texts=bar.update))
            self._rows |= {key: len(self._rows) + place for place, key in enumerate(missing)}
        vectors = self._vectors[0] if len(self._vectors) == 1 else np.concatenate(self._vectors)
        self._vectors = [vectors]
        return self.variant.apply(vectors[[self._rows[key] for key in keys]])

    def prompt(self, prompt_type: PromptType | None) -> str:
        """What is put before a text of this side; texts without sides have the default prompt."""
        if self.task_prompts is not None:
            side = "query" if prompt_type == PromptType.query else "document"
            return self.task_prompts.get(side, "")
        if prompt_type is None:
            return self.texts.model.modules.default_prompt
        return self.prompts.get("query" if prompt_type == PromptType.query else "document", "")

    def similarity(self, first: Any, second: Any) -> Any:  # noqa: ANN401
        """How alike each of the first is to each of the second."""
        if self._scoring == ScoringFunction.MANHATTAN:  # mteb has none
            return -torch.cdist(torch.as_tensor(first), torch.as_tensor(second), p=1.0)
        return select_similarity(first, second, self._scoring)

    def similarity_pairwise(self, first: Any, second: Any) -> Any:  # noqa: ANN401
        """How alike the vectors of each pair are."""
        if self._scoring == ScoringFunction.MANHATTAN:
            return -(torch.as_tensor(first) - torch.as_tensor(second)).abs().sum(dim=-1)
        return select_pairwise_similarity(first, second, self._scoring)

    @property
    def _scoring(self) -> ScoringFunction:
        return ScoringFunction.from_str(self.texts.model.modules.similarity)

    def begin(self, task: Any) -> None:  # noqa: ANN401
        """Forget the vectors of the task before, and take this one's prompts."""
        self._rows, self._vectors = {}, []
        is_local = isinstance(task, tuple(LOCAL_TASKS.values()))
        self.task_prompts = task.local.settings.prompts() if is_local else None
