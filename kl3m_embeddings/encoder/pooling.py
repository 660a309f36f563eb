"""From the hidden states of a text's tokens to its one vector.

Every pooling computes in fp32, whatever the states are, and gives zero to a text without tokens.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def mean_pool(
    hidden_states: Float[Tensor, "batch length hidden"],
    attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
) -> Float[Tensor, "batch hidden"]:
    """The mean over the tokens that are not padding, in fp32; zero for a text without any."""
    mask = attention_mask.float()[..., None]  # batch x length x 1
    return (hidden_states.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def mean_sqrt_len_pool(
    hidden_states: Float[Tensor, "batch length hidden"],
    attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
) -> Float[Tensor, "batch hidden"]:
    """The sum over the tokens that are not padding, over the square root of their number."""
    mask = attention_mask.float()[..., None]
    return (hidden_states.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1).sqrt()


def max_pool(
    hidden_states: Float[Tensor, "batch length hidden"],
    attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
) -> Float[Tensor, "batch hidden"]:
    """The largest value of each dimension among the tokens that are not padding."""
    mask = attention_mask.bool()[..., None]
    lowest = torch.finfo(torch.float32).min
    largest = hidden_states.float().masked_fill(~mask, lowest).amax(dim=1)
    return largest.masked_fill(~mask.any(dim=1), 0.0)


def cls_pool(
    hidden_states: Float[Tensor, "batch length hidden"],
    attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
) -> Float[Tensor, "batch hidden"]:
    """The first token that is not padding, in fp32."""
    first = attention_mask.int().argmax(dim=1)
    return hidden_states[torch.arange(len(first), device=first.device), first].float()


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": cls_pool,
    "max": max_pool,
    "mean": mean_pool,
    "mean_sqrt_len": mean_sqrt_len_pool,
}


def finish(
    embeddings: Float[Tensor, "batch hidden"], num_dims: int | None = None, *, normalise: bool
) -> Float[Tensor, "batch dims"]:
    """Keep the first `num_dims` dimensions (Matryoshka), then scale to unit length if asked.

    Kusupati et al., Matryoshka Representation Learning (https://arxiv.org/abs/2205.13147).
    """
    embeddings = embeddings[:, :num_dims]
    return F.normalize(embeddings, dim=-1) if normalise else embeddings
