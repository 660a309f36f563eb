"""A guide: another model, by whose similarity false negatives are recognised.

Its vectors of all texts are computed once, not once an epoch. Texts are kept as token ids; a guide
with the same tokenizer reads these, any other one the text that they decode to.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kl3m_embeddings.data.pair_set import PairSet
from kl3m_embeddings.data.shards import sha256_of_file
from kl3m_embeddings.data.tokenizer import Tokenizer, load_tokenizer
from kl3m_embeddings.encoder.architecture import max_sequence_length
from kl3m_embeddings.encoder.build import load_encoder, transformer_folder
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.sentence_modules import build_embedding_head, read_sentence_modules
from kl3m_embeddings.tasks.base import NUM_SPECIAL

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
    limit = (modules.max_seq_length or max_sequence_length(encoder.config)) - NUM_SPECIAL
    texts = [
        [
            own.cls_id,
            *_read(pairs.texts.document_tokens(number), tokenizer, own)[:limit],
            own.sep_id,
        ]
        for number in range(pairs.num_texts)
    ]
    return encode_ids(
        encoder, texts, pad_id=own.pad_id, head=head.to(next(encoder.parameters()).device)
    )


def _read(tokens: NDArray[np.integer], tokenizer: Tokenizer, own: Tokenizer) -> list[int]:
    """A text's tokens, as the guide's tokenizer has them."""
    ids: list[int] = tokens.tolist()
    return (
        ids
        if own.fingerprint == tokenizer.fingerprint
        else own.encode(tokenizer.backend.decode(ids))
    )
