"""A model, ready to embed: texts to vectors.

1. What the model is says `encoder/folder/opened.py`: encoder, tokenizer, pooling, dense layers and
   prompts, of a checkpoint of ours, a sentence-transformers or a transformers folder.
2. A text becomes the tokens that transformers makes of it, cut to the model's longest text.
3. Texts of similar length share a batch of at most 4,096 tokens on the CPU, 32,768 elsewhere.
4. The computation runs in bfloat16 where the device multiplies in it; pooling and all that follows
   are float32, as in training.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.architecture import check_vocabulary
from kl3m_embeddings.encoder.folder.opened import OpenedModel, open_model
from kl3m_embeddings.encoder.folder.parity import load_opened
from kl3m_embeddings.encoder.folder.sentence_modules import build_embedding_head
from kl3m_embeddings.encoder.kernels.precision import Precision, default_precision
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder

# Texts whose ids are held at once; sorting by length needs many, memory sets the limit.
TEXTS_PER_BLOCK = 50_000
# Small batches stay in a processor's cache; what an accelerator likes best is a guess.
CPU_BATCH_TOKENS, ACCELERATOR_BATCH_TOKENS = 4096, 32_768


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """An encoder with all that makes texts into vectors; see `load`."""

    model: OpenedModel
    encoder: MaskedEncoder
    head: EmbeddingHead
    device: torch.device
    precision: Precision

    @classmethod
    def load(
        cls,
        model: OpenedModel | str | Path,
        *,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
    ) -> "TextEncoder":
        """Read a model's weights.

        Args:
            model: One that is open, or what `open_model` takes.
            device: To compute on.
            precision: Of the computation; None: bfloat16 where the device multiplies in it.

        Raises:
            ConfigError: It is no model, lacks a tokenizer, or cannot be embedded with.
        """
        if not isinstance(model, OpenedModel):
            model = open_model(model)
        check_vocabulary(model.config, model.tokenizer.vocab_size, model.transformer)
        encoder = load_opened(model, masked_head=False)
        head = build_embedding_head(model.modules, encoder.hidden_size)
        device = torch.device(device)
        return cls(
            model=model,
            encoder=encoder.to(device).eval(),
            head=head.to(device).eval(),
            device=device,
            precision=precision or default_precision(device),
        )

    @property
    def embedding_size(self) -> int:
        """Dimensions of a vector."""
        size = self.head.embedding_size
        return min(self.model.modules.truncate_dim or size, size)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what vectors depend on: the model, and the precision of the computation."""
        return hashlib.sha256(f"{self.model.fingerprint} {self.precision}".encode()).hexdigest()

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        on_texts: Callable[[int], None] = lambda _: None,
    ) -> Float32[np.ndarray, "texts dim"]:
        """One vector for each text, in their order; of unit length if the model normalises.

        Args:
            texts: Any; an empty one has a vector, too.
            prompt: Put before every text.
            on_texts: Told how many more texts are done.
        """
        backend = self.model.tokenizer.backend
        vectors = np.empty((len(texts), self.embedding_size), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_PER_BLOCK):
            block = [prompt + text for text in texts[start : start + TEXTS_PER_BLOCK]]
            encodings = backend.encode_batch_fast(block, add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            vectors[start : start + len(block)] = self.encode_ids(ids, on_texts=on_texts)
        return vectors

    def encode_ids(
        self,
        texts: Sequence[Sequence[int]],
        *,
        on_texts: Callable[[int], None] = lambda _: None,
    ) -> Float32[np.ndarray, "texts dim"]:
        """As `encode`, of texts that are token ids of the model's own tokenizer.

        Args:
            texts: Ids without special tokens, prompts included.
            on_texts: Told how many more texts are done.
        """
        tokenizer, longest = self.model.tokenizer, self.model.max_length
        on_cpu = self.device.type == "cpu"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return encode_ids(
                self.encoder,
                [tokenizer.framed(ids, longest) for ids in texts],
                pad_id=tokenizer.pad_id,
                num_dims=self.embedding_size,
                normalise=False,  # the head does, where the model says so
                head=self.head,
                max_batch_tokens=CPU_BATCH_TOKENS if on_cpu else ACCELERATOR_BATCH_TOKENS,
                on_texts=on_texts,
            )
