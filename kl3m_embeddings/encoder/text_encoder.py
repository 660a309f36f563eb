"""A model folder, ready to embed: texts to vectors.

1. Encoder, tokenizer, pooling, dense layers and prompts are read from one folder: a checkpoint of
   ours, a sentence-transformers or a transformers folder.
2. A text becomes `[CLS] ids [SEP]`, cut to the model's longest text, as in training.
3. Texts of similar length share a batch, which holds as many tokens as the device likes.
4. The computation runs in bfloat16 where the device multiplies in it; pooling and all that follows
   are float32, as in training.

`fingerprint` names what the vectors depend on, so that results of two models are never mistaken
for each other's.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from kl3m_embeddings.data.tokenizer.tokenizer import NUM_SPECIAL, Tokenizer
from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.architecture import check_vocabulary, max_sequence_length
from kl3m_embeddings.encoder.folder.load import load_encoder, transformer_folder
from kl3m_embeddings.encoder.folder.opened import read_text_files
from kl3m_embeddings.encoder.folder.sentence_modules import (
    SentenceModules,
    build_embedding_head,
)
from kl3m_embeddings.encoder.kernels.precision import Precision, default_precision
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder

# Texts whose ids are held at once; sorting by length needs many, memory sets the limit.
TEXTS_PER_BLOCK = 50_000
# Small batches stay in a processor's cache; what an accelerator likes best is a guess.
CPU_BATCH_TOKENS, ACCELERATOR_BATCH_TOKENS = 4096, 32_768


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """An encoder with all that makes texts into vectors; see `load`."""

    source: str
    encoder: MaskedEncoder
    head: EmbeddingHead
    tokenizer: Tokenizer
    modules: SentenceModules
    max_length: int
    """Tokens of a text, special ones included; longer texts are cut."""
    device: torch.device
    precision: Precision

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
    ) -> "TextEncoder":
        """Read a model.

        Args:
            source: A folder, `package:NAME/SUBFOLDER`, or a hub name.
            device: To compute on.
            precision: Of the computation; None: bfloat16 where the device multiplies in it.

        Raises:
            ConfigError: It is no model, lacks a tokenizer, or cannot be embedded with.
        """
        folder, modules, tokenizer = read_text_files(source)
        encoder = load_encoder(folder, masked_head=False)
        check_vocabulary(encoder.config, tokenizer.vocab_size, transformer_folder(folder))
        longest = max_sequence_length(encoder.config)
        head = build_embedding_head(modules, encoder.hidden_size)
        place = torch.device(device)
        return cls(
            source=str(source),
            encoder=encoder.to(place).eval(),
            head=head.to(place).eval(),
            tokenizer=tokenizer,
            modules=modules,
            max_length=min(modules.max_seq_length or longest, longest),
            device=place,
            precision=precision or default_precision(place),
        )

    @property
    def embedding_size(self) -> int:
        """Dimensions of a vector."""
        size = self.head.embedding_size
        return min(self.modules.truncate_dim or size, size)

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
        vectors = np.empty((len(texts), self.embedding_size), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_PER_BLOCK):
            block = texts[start : start + TEXTS_PER_BLOCK]
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
            ):
                vectors[start : start + len(block)] = encode_ids(
                    self.encoder,
                    self._framed([prompt + text for text in block]),
                    pad_id=self.tokenizer.pad_id,
                    num_dims=self.embedding_size,
                    normalise=False,
                    head=self.head,
                    max_batch_tokens=(
                        CPU_BATCH_TOKENS if self.device.type == "cpu" else ACCELERATOR_BATCH_TOKENS
                    ),
                    on_texts=on_texts,
                )
        return vectors

    def _framed(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts, cut to the longest allowed, between the special ones."""
        limit = self.max_length - NUM_SPECIAL
        encodings = self.tokenizer.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        cls_id, sep_id = self.tokenizer.cls_id, self.tokenizer.sep_id
        return [[cls_id, *encoding.ids[:limit], sep_id] for encoding in encodings]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what vectors depend on: weights, architecture, tokenizer, pooling, cutting."""
        digest = hashlib.sha256()
        for module in (self.encoder, self.head):
            for name, tensor in sorted(module.state_dict().items()):
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().data)
        settings = {
            "architecture": self.encoder.config.to_diff_dict(),
            "tokenizer": self.tokenizer.fingerprint,
            "pooling": self.head.pooling,
            "normalise": self.head.normalise,
            "activations": [settings.activation for settings in self.head.dense_settings],
            "truncate_dim": self.modules.truncate_dim,
            "max_length": self.max_length,
            "precision": self.precision,
        }
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        return digest.hexdigest()
