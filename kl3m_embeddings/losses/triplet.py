"""Triplet loss: the positive nearer than the negative by a margin."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.similarity import cosine, in_fp32
from kl3m_embeddings.losses.targets import hard_negatives


def _cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 - s(x,y), from 0 to 2."""
    return 1 - cosine(first, second)


def _euclidean_distance(first: Tensor, second: Tensor) -> Tensor:
    """The length of x - y; the default eps would make that of equal texts positive."""
    return F.pairwise_distance(in_fp32(first), in_fp32(second), eps=0.0)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine_distance,
    "euclidean": _euclidean_distance,
}


class Triplet(PairLoss):
    """How far the positive is from being nearer than a negative by the margin.

    max(0, d(a,p) - d(a,n) + margin)

    Inputs:
        pairs with at least one hard negative; with several, each makes a triplet. The euclidean
        distance is that of the embeddings as they are, not normalised.

    Relations:
        TripletLoss (sentence-transformers), whose defaults are euclidean and 5. InfoNCE weighs
        negatives by how near they are; this loss counts those within the margin alike.

    Reference:
        Schroff et al. 2015, https://arxiv.org/abs/1503.03832.
    """

    def __init__(
        self, *, margin: float = 0.3, distance: Literal["cosine", "euclidean"] = "cosine"
    ) -> None:
        """Set the margin, in the unit of the distance: cosine distances lie in 0..2."""
        super().__init__()
        self.margin = margin
        self.distance = distance

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the triplets."""
        distance = DISTANCES[self.distance]
        anchors, positives = embeddings[0], embeddings[1]
        negatives = hard_negatives(embeddings, "triplet")
        # Of shape (negatives, pairs).
        gaps = distance(anchors, positives) - distance(anchors, negatives)
        return F.relu(gaps + self.margin).mean()
