"""Matryoshka representation learning: the first dimensions alone should do, too.

The loss is taken of the embeddings cut to each of several dimensions, and the results are added up
by weight, all 1 unless given: a sum, as in the paper's equation 1, not a mean. The full dimension
is trained only if it is among `dims`.

Kusupati et al. 2022, https://arxiv.org/abs/2205.13147.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError


class Matryoshka(nn.Module):
    """Any loss, at several truncations.

    sum over dims m of weight_m L(first m dimensions)

    Inputs:
        those of the loss within.

    Relations:
        MatryoshkaLoss (sentence-transformers). A guide's embeddings and a teacher's scores are not
        truncated.

    Reference:
        Kusupati et al. 2022, https://arxiv.org/abs/2205.13147.
    """

    def __init__(
        self, loss: nn.Module, dims: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        """Wrap a loss.

        Args:
            loss: any of the table.
            dims: each between 1 and the embedding's size.
            weights: one for each of dims.

        Raises:
            ConfigError: dims and weights do not fit each other.
        """
        super().__init__()
        if not dims or min(dims) < 1:
            raise ConfigError(f"matryoshka: dims: {list(dims)} must be one or more sizes from 1 up")
        if weights is not None and len(weights) != len(dims):
            raise ConfigError(
                f"matryoshka: weights: {len(weights)} for {len(dims)} dims: give one for each"
            )
        self.loss = loss
        self.dims = tuple(dims)
        self.weights = tuple(weights or [1.0] * len(dims))

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Weighted sum over dims of the mean over pairs.

        Raises:
            ConfigError: one of dims is larger than the embedding.
        """
        size = embeddings.shape[-1]
        if max(self.dims) > size:
            raise ConfigError(
                f"matryoshka: dims: {max(self.dims)} is larger than the embedding ({size}): "
                "leave it out"
            )
        losses = [
            weight * self.loss(embeddings[..., :dim], targets)
            for dim, weight in zip(self.dims, self.weights, strict=True)
        ]
        return torch.stack(losses).sum()
