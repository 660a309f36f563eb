"""A guide: another model, by whose similarity false negatives are recognised.

1. Its vectors of all texts are computed once, not once an epoch.
2. Texts are kept as token ids behind the prefix of their role. The guide reads them without it and
   behind the prompt that it has for the role; a text in both roles, without any.
3. A guide with the same tokenizer that would read the very same text reads the ids themselves.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.tokenizer.tokenizer import NUM_SPECIAL, Tokenizer, load_tokenizer
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.architecture import max_sequence_length
from kl3m_embeddings.encoder.folder.load import load_encoder, transformer_folder
from kl3m_embeddings.encoder.folder.sentence_modules import (
    SentenceModules,
    build_embedding_head,
    read_sentence_modules,
)
from kl3m_embeddings.files.hashes import sha256_of_file

VERSION = 1  # of what is done with the guide's files
FILE_TYPES = {".safetensors", ".json", ".txt", ".model"}  # weights, settings, vocabularies


def guide_sha256(folder: Path) -> str:
    """One hash of all files that decide what a guide's vectors are."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in FILE_TYPES)
    lines = [
        f"{path.relative_to(folder).as_posix()} {sha256_of_file(path)}\n"
        for path in paths
        if path.is_file()
    ]
    return hashlib.sha256("".join([f"{VERSION}\n", *lines]).encode()).hexdigest()


def guide_embeddings(folder: Path, pairs: PairSet, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """The guide's vectors of all texts of a set, of shape (texts, the guide's dimensions).

    Args:
        folder: of the guide.
        pairs: the set.
        tokenizer: made its tokens.
    """
    encoder = load_encoder(folder)
    modules = read_sentence_modules(folder)
    head = build_embedding_head(modules, encoder.hidden_size)
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    own = load_tokenizer(transformer_folder(folder))
    longest = max_sequence_length(encoder.config)
    limit = min(modules.max_seq_length or longest, longest) - NUM_SPECIAL
    texts = [
        [own.cls_id, *ids[:limit], own.sep_id]
        for ids in guide_texts(pairs, tokenizer, own, modules)
    ]
    return encode_ids(
        encoder, texts, pad_id=own.pad_id, head=head.to(next(encoder.parameters()).device)
    )


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
    for number in range(pairs.num_texts):
        prefix, prompt = pairs.document_prefix, modules.document_prompt
        if is_query[number]:
            # in both roles: the prefixes are equal, or the ids would differ
            prefix = pairs.query_prefix
            prompt = "" if is_document[number] else modules.query_prompt
        ids = pairs.texts.document_tokens(number).tolist()
        if own.fingerprint == tokenizer.fingerprint and prefix == prompt:
            yield ids
        else:
            yield own.encode(prompt + _without_prefix(ids, prefix, tokenizer))


def _without_prefix(ids: list[int], prefix: str, tokenizer: Tokenizer) -> str:
    """The text of ids, less the prefix, in whatever form the tokenizer gives that back."""
    decode = tokenizer.backend.decode
    text: str = decode(ids)
    return text.removeprefix(decode(tokenizer.encode(prefix))).lstrip() if prefix else text
