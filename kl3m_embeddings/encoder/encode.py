"""Texts to vectors, in batches of equal work: sorted by length, cut by a budget of tokens."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.encoder.pooling import finish

MAX_BATCH_TOKENS = 8192


@torch.inference_mode()
def encode_ids(
    encoder: MaskedEncoder,
    texts: Sequence[Sequence[int]],
    *,
    pad_id: int,
    pooling: str = "mean",
    num_dims: int | None = None,
    normalise: bool = True,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    head: EmbeddingHead | None = None,
    on_texts: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """One vector for each text, of shape (texts, dims), in the order given.

    Args:
        encoder: on whichever device; it is put into evaluation mode.
        texts: token ids, special tokens included, none longer than the encoder's positions.
        pad_id: fills shorter texts.
        pooling: a name of POOLINGS, where there is no `head`.
        num_dims: keep so many dimensions; None: all.
        normalise: scale to unit length what was kept, as sentence-transformers'
            `normalize_embeddings`; a head that normalises does so before the cut.
        max_batch_tokens: a batch holds at most so many, padding included, or a single text.
        head: what follows the encoder, on the same device.
        on_texts: told after each batch how many texts it had.
    """
    encoder.eval()
    head = head or EmbeddingHead(encoder.hidden_size, pooling=pooling)
    device = next(encoder.parameters()).device
    num_dims = min(num_dims or head.embedding_size, head.embedding_size)
    vectors = np.empty((len(texts), num_dims), dtype=np.float32)
    for rows in batches_by_length([len(text) for text in texts], max_batch_tokens):
        input_ids, attention_mask = padded([texts[row] for row in rows], pad_id)
        input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
        hidden_states = encoder.hidden_states(input_ids, attention_mask)
        embeddings = head(hidden_states, attention_mask)
        vectors[rows] = finish(embeddings, num_dims, normalise=normalise).cpu().numpy()
        on_texts(len(rows))
    return vectors


def batches_by_length(lengths: Sequence[int], max_batch_tokens: int) -> Iterator[list[int]]:
    """Rows of similar length, longest first, whose padded size stays within the budget."""
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    start = 0
    while start < len(order):
        # The first row is the longest: it says how wide all of them are padded.
        num_rows = max(1, max_batch_tokens // max(lengths[order[start]], 1))
        yield order[start : start + num_rows]
        start += num_rows


def padded(
    texts: Sequence[Sequence[int]], pad_id: int
) -> tuple[Int[Tensor, "texts longest"], Int[Tensor, "texts longest"]]:
    """Token ids padded on the right, and their attention mask."""
    longest = max(len(text) for text in texts)
    rows = [[*text, *[pad_id] * (longest - len(text))] for text in texts]
    mask = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
    return torch.tensor(rows), torch.tensor(mask)
