"""Is it the model that its own library has? Asked whenever somebody's model is loaded.

A model is read with our tokenizer, our attention and our order of rows. What a folder says can be
misread in silence: a tokenizer that makes lower case, a template, the side on which long texts are
cut, positions, an architecture with a rule of its own. So a few texts go both ways:

1. **Theirs**: the tokenizer that transformers builds, and its network, one text at a time and
   before anything is made fast (`ParityCheck.observe`); cut as sentence-transformers cuts.
2. **Ours**: tokens, rows that are padded together, and the network as it will run.

Pooling and what follows are the same in both: sentence-transformers' modules are held to ours in
the tests. Below a cosine of 0.999 the model is refused, and what differs is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from kl3m_embeddings.data.tokenizer.files import lower_case, transformers_tokenizer
from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.encode import padded
from kl3m_embeddings.encoder.folder.load import load_encoder
from kl3m_embeddings.encoder.folder.module_files import (
    module_entries,
    read_transformer_settings,
)
from kl3m_embeddings.encoder.folder.opened import OpenedModel, longest_text, shortest
from kl3m_embeddings.encoder.folder.sentence_modules import build_embedding_head
from kl3m_embeddings.encoder.heads import Network
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.errors import ConfigError, first_line, is_out_of_memory

MIN_COSINE = 0.999
MAX_NORM_ERROR = 0.01
# More than ModernBERT's windows and DeBERTa's exact offsets reach, and quick.
MAX_TOKENS = 192
SHORT = "A lamp."
TEXTS = (
    SHORT,
    "HOW TO MEASURE THE HARBOUR, and Why It Matters",
    "Café, naïve Zürich: déjà vu; «œuvre» ½ £5",
    'It\'s 3.14 (or so)...\tsee  "§ 12(b)" e-mail@example.org\nnext line ',
    "Ελληνικά, русский, 漢字 かな, العربية, 🙂",
)
SHOWN_IDS = 12


def load_opened(
    model: OpenedModel,
    *,
    config: PretrainedConfig | None = None,
    seed: int = 0,
    masked_head: bool = True,
) -> MaskedEncoder:
    """Load a model's weights, and make sure that it gives the vectors which transformers would.

    A model that is given another tokenizer is another model, of which there is nothing to ask.

    Args:
        model: One that is open.
        config: The architecture that the weights must fit; None: its own.
        seed: Of the weights that the checkpoint lacks; they are listed in `fresh_parameters`.
        masked_head: Whether the masked-language head is wanted.

    Raises:
        ConfigError: The weights do not fit, or the vectors would be others.
    """
    config = config or model.config
    if not model.has_own_tokenizer:
        return load_encoder(model.transformer, seed=seed, config=config, masked_head=masked_head)
    check = ParityCheck(model, build_embedding_head(model.modules, int(config.hidden_size)))
    encoder = load_encoder(
        model.transformer,
        seed=seed,
        config=config,
        masked_head=masked_head,
        observe=check.observe,
    )
    check.check(encoder)
    return encoder


@dataclass
class ParityCheck:
    """The texts, and the vectors that transformers' own network gives them."""

    model: OpenedModel
    head: EmbeddingHead
    tokenizer: Any = field(init=False)
    """transformers' own."""
    _vectors: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        folder = self.model.transformer
        self.tokenizer = transformers_tokenizer(folder)
        if self.model.modules.do_lower_case:
            lower_case(self.tokenizer.backend_tokenizer)

    @cached_property
    def texts(self) -> list[str]:
        """What is compared: with the model's prompts, and one that is longer than MAX_TOKENS."""
        prompts = sorted({prompt for prompt in self.model.modules.prompts.values() if prompt})
        return [*TEXTS, *(prompt + SHORT for prompt in prompts), words(MAX_TOKENS)]

    @cached_property
    def longest(self) -> int | None:
        """Where sentence-transformers cuts, or the architecture ends."""
        # which are of sentence-transformers' folders, not of any that has such a file
        is_plain = not module_entries(self.model.folder)
        settings = {} if is_plain else read_transformer_settings(self.model.transformer)
        length = settings.get("max_seq_length")
        if length is None:
            declared = getattr(self.model.config, "max_position_embeddings", None) or -1
            length = shortest(self.tokenizer.model_max_length, declared if declared > 0 else None)
        return longest_text(length, self.model.config)

    def their_ids(self, text: str, longest: int | None) -> list[int]:
        """A text's tokens, by transformers' tokenizer."""
        ids: list[int] = self.tokenizer(text, truncation=longest is not None, max_length=longest)[
            "input_ids"
        ]
        return ids

    def our_ids(self, text: str, longest: int | None) -> list[int]:
        """A text's tokens, by ours."""
        tokenizer = self.model.tokenizer
        return tokenizer.framed(tokenizer.encode(text), longest)

    @torch.inference_mode()
    def observe(self, network: Network) -> None:
        """Take the vectors of transformers' own network, whose weights are loaded."""
        longest = shortest(self.longest, MAX_TOKENS)
        was_training = network.training
        network.eval()
        for text in self.texts:
            inputs = self.tokenizer(
                text,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
                return_attention_mask=True,  # `model_input_names` may lack it
            )
            try:
                states = network.base_model(**inputs).last_hidden_state
            except Exception as error:  # whatever an architecture raises that needs more than this
                if is_out_of_memory(error):
                    raise
                raise ConfigError(
                    f"{self.model.source}: transformers' own network "
                    f"({self.model.config.model_type}) cannot embed {text[:40]!r}: "
                    f"{first_line(error)}"
                ) from error
            self._vectors.append(self.head(states, inputs["attention_mask"])[0])
        network.train(was_training)

    @torch.inference_mode()
    def check(self, encoder: MaskedEncoder) -> None:
        """Raise ConfigError unless our tokens and our encoder give the same vectors."""
        problem = next(self._token_problems(), None)
        if problem is None:
            longest = shortest(self.model.max_length, MAX_TOKENS)
            rows = [self.our_ids(text, longest) for text in self.texts]
            input_ids, attention_mask = padded(rows, self.model.tokenizer.pad_id)
            was_training = encoder.training
            encoder.eval()
            vectors = self.head(encoder.hidden_states(input_ids, attention_mask), attention_mask)
            encoder.train(was_training)
            problem = next(self._vector_problems(vectors), None)
        if problem is not None:
            raise ConfigError(
                f"{self.model.source}: its vectors here would not be those of transformers, so it "
                f"is not used: {problem}"
            )

    def _token_problems(self) -> Iterator[str]:
        if self.longest != self.model.max_length:
            yield (
                f"texts are cut to {self.model.max_length} tokens here, and to {self.longest} there"
            )
        long = [] if self.longest is None else [words(self.longest)]
        # a special token may take the spaces around it, or be text where nothing names it
        named = [f"A {one} lamp,{one}B" for one in self.model.tokenizer.special_tokens.values()]
        for text in [*self.texts, *named, *long]:
            ours, theirs = (ids(text, self.longest) for ids in (self.our_ids, self.their_ids))
            if ours != theirs:
                yield f"the tokens of {text[:40]!r} are {shown(ours)} here, {shown(theirs)} there"

    def _vector_problems(self, vectors: Tensor) -> Iterator[str]:
        for text, ours, theirs in zip(self.texts, vectors, self._vectors, strict=True):
            cosine = float(F.cosine_similarity(ours, theirs, dim=0))
            ratio = float(ours.norm() / theirs.norm())
            # written so that what is no number is a difference
            if not (cosine >= MIN_COSINE and abs(ratio - 1) <= MAX_NORM_ERROR):
                kind = self.model.config.model_type
                yield (
                    f"the tokens of {text[:40]!r} are the same, but not what the network "
                    f"({kind}) makes of them (cosine {cosine:.4f}, length {ratio:.3f} times theirs)"
                )


def words(number: int) -> str:
    """A text of more than so many words, whose end is not like its beginning."""
    return f"{'a lamp for the garden, ' * (number // 5)} and the harbour at the end"


def shown(ids: list[int]) -> str:
    """Token ids, shortened."""
    return f"{len(ids)}: {ids[:SHOWN_IDS]}" if len(ids) > SHOWN_IDS else str(ids)
