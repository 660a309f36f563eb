"""Triplet loss: the positive nearer than the negative by a margin."""

from types import MappingProxyType

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.targets import hard_negatives


class Triplet(PairLoss):
    """How far the positive is from being nearer than a negative by the margin.

    max(0, s(a,n) - s(a,p) + margin), which is max(0, d(a,p) - d(a,n) + margin) of distances d

    Inputs:
        pairs with at least one hard negative; with several, each makes a triplet.

    Relations:
        TripletLoss (sentence-transformers), whose defaults are euclidean and 5. InfoNCE weighs
        negatives by how near they are; this loss counts those within the margin alike.

    Reference:
        Schroff et al. 2015, https://arxiv.org/abs/1503.03832.
    """

    beyond_unit_range = MappingProxyType({"margin": None})

    def __init__(self, *, margin: float = 0.3, similarity: SimilarityName = "cosine") -> None:
        """Set the margin, in the unit of the similarity: distances of cosines lie in 0..2."""
        super().__init__(similarity=similarity)
        self.margin = margin

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the triplets."""
        anchors, positives = embeddings[0], embeddings[1]
        negatives = hard_negatives(embeddings, "triplet")
        # Of shape (negatives, pairs).
        gaps = self.similarity(anchors, negatives) - self.similarity(anchors, positives)
        return F.relu(gaps + self.margin).mean()
