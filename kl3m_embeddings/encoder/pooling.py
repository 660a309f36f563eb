"""From the hidden states of a text's tokens to its one vector."""

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
    mask = attention_mask.float()[..., None]
    return (hidden_states.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def cls_pool(
    hidden_states: Float[Tensor, "batch length hidden"],
    attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
) -> Float[Tensor, "batch hidden"]:
    """The first token that is not padding, in fp32."""
    first = attention_mask.int().argmax(dim=1)
    return hidden_states[torch.arange(len(first), device=first.device), first].float()


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cls": cls_pool, "mean": mean_pool}


def finish(
    embeddings: Float[Tensor, "batch hidden"], num_dims: int | None = None, *, normalise: bool
) -> Float[Tensor, "batch dims"]:
    """Keep the first `num_dims` dimensions (Matryoshka), then scale to unit length if asked.

    Kusupati et al., Matryoshka Representation Learning (https://arxiv.org/abs/2205.13147).
    """
    embeddings = embeddings[:, :num_dims]
    return F.normalize(embeddings, dim=-1) if normalise else embeddings
