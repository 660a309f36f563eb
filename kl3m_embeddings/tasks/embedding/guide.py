"""A guide: another model, by whose similarity false negatives are recognised.

1. Its vectors of all texts are computed once, not once an epoch.
2. Texts are kept as token ids behind the prefix of their role. The guide reads them without it and
   behind the prompt that it has for the role; a text in both roles, without any.
3. A guide with the same tokenizer that would read the very same text reads the ids themselves.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32

from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.encoder.folder.opened import OpenedModel
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules
from kl3m_embeddings.encoder.text_encoder import TextEncoder

VERSION = 2
"""Of what is done with a guide: vectors of another version are not used."""


def guide_key(guide: OpenedModel) -> str:
    """Names what a guide's vectors of a set of texts depend on, beside the texts."""
    return hashlib.sha256(f"{VERSION} {guide.fingerprint}".encode()).hexdigest()


def guide_embeddings(
    guide: OpenedModel, pairs: PairSet, tokenizer: Tokenizer, device: torch.device
) -> Float32[np.ndarray, "texts guide_dim"]:
    """The guide's vectors of all texts of a set.

    Args:
        guide: the model.
        pairs: the set.
        tokenizer: made its tokens.
        device: to compute on.
    """
    # in float32: a margin tells texts apart that differ little
    encoder = TextEncoder.load(guide, device=device, precision="float32")
    texts = guide_texts(pairs, tokenizer, guide.tokenizer, guide.modules)
    return encoder.encode_ids(list(texts))


def guide_texts(
    pairs: PairSet, tokenizer: Tokenizer, own: Tokenizer, modules: SentenceModules
) -> Iterator[list[int]]:
    """Each text's tokens, as the guide's tokenizer has them, special ones left out.

    Args:
        pairs: the set.
        tokenizer: made its tokens.
        own: the guide's.
        modules: the guide's.
    """
    is_query, is_document = (np.zeros(pairs.num_texts, dtype=bool) for _ in range(2))
    is_query[pairs.queries] = True
    is_document[pairs.positives] = is_document[pairs.negatives] = True
    for text_id in range(pairs.num_texts):
        prefix, prompt = pairs.document_prefix, modules.document_prompt
        if is_query[text_id]:
            # in both roles: the prefixes are equal, or the ids would differ
            prefix = pairs.query_prefix
            prompt = "" if is_document[text_id] else modules.query_prompt
        ids = pairs.texts.document_tokens(text_id).tolist()
        if own.text_fingerprint == tokenizer.text_fingerprint and prefix == prompt:
            yield ids
        else:
            yield own.encode(prompt + _without_prefix(ids, prefix, tokenizer))


def _without_prefix(ids: list[int], prefix: str, tokenizer: Tokenizer) -> str:
    """The text of ids, less the prefix, in whatever form the tokenizer gives that back."""
    decode = tokenizer.backend.decode
    text: str = decode(ids)
    return text.removeprefix(decode(tokenizer.encode(prefix))).lstrip() if prefix else text
