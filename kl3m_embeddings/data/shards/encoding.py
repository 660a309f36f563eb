"""Texts to token arrays, in batches, at the speed of the tokenizer.

Long texts are cut into pieces: otherwise one document keeps one core busy, and takes many times
its own size in memory. A cut is made at a space, and only where the tokens on both sides of it are
those of the uncut text around it; a text without such a place stays whole.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer

BATCH_CHARS = 1 << 21
PIECE_CHARS = 1 << 18
CONTEXT_CHARS = 1 << 10
MAX_TRIES = 32  # spaces that are tried before a text stays whole


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], dtype: np.dtype[Any]
) -> list[np.ndarray]:
    """The tokens of each text, without special tokens."""
    pieces_of_texts = [cut_text(tokenizer, text) for text in texts]
    pieces = [piece for pieces in pieces_of_texts for piece in pieces]
    tokens = _encode_in_batches(tokenizer, pieces, dtype)
    return [
        next(tokens) if len(pieces) == 1 else np.concatenate([next(tokens) for _ in pieces])
        for pieces in pieces_of_texts
    ]


def cut_text(tokenizer: Tokenizer, text: str) -> list[str]:
    """Pieces of a text that have, together, the text's own tokens."""
    pieces = []
    start = 0
    while len(text) - start > 2 * PIECE_CHARS:
        cut = _cut_after(tokenizer, text, start + PIECE_CHARS)
        if cut is None:
            break
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]


def _cut_after(tokenizer: Tokenizer, text: str, start: int) -> int | None:
    """The first cut at a space after `start` that does not change the tokens around it."""
    space = start
    for _ in range(MAX_TRIES):
        space = text.find(" ", space + 1)
        if space < 0 or len(text) - space < CONTEXT_CHARS:
            return None
        for cut in (space, space + 1):  # the space belongs to the word after it, or to none
            left, right = text[cut - CONTEXT_CHARS : cut], text[cut : cut + CONTEXT_CHARS]
            if tokenizer.encode(left) + tokenizer.encode(right) == tokenizer.encode(left + right):
                return cut
    return None


def _encode_in_batches(
    tokenizer: Tokenizer, texts: Sequence[str], dtype: np.dtype[Any]
) -> Iterator[np.ndarray]:
    """The tokens of each text; at most about `BATCH_CHARS` are in the works at once."""
    start = 0
    while start < len(texts):
        end, num_chars = start, 0
        while end < len(texts) and (end == start or num_chars + len(texts[end]) <= BATCH_CHARS):
            num_chars += len(texts[end])
            end += 1
        # "fast": without the offsets, which nobody reads
        for encoding in tokenizer.backend.encode_batch_fast(
            texts[start:end], add_special_tokens=False
        ):
            yield np.array(encoding.ids, dtype=dtype)
        start = end
