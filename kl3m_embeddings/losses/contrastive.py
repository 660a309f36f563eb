"""Contrastive loss: alike together, different at least a margin apart."""

from types import MappingProxyType

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.targets import labelled_similarities


class Contrastive(PairLoss):
    """Squared distance of similar pairs, squared shortfall from the margin of different ones.

    1/2 ( y d^2 + (1 - y) max(0, margin - d)^2 ), with d the distance: 1 - s(a,b) of cosines

    Inputs:
        two columns and labels, 1 for similar and 0 for different (a graded label weighs the two
        terms); or no labels and hard negatives, then y is 1 for the positive, 0 for each negative.

    Relations:
        ContrastiveLoss (sentence-transformers). OnlineContrastive keeps the hard pairs only.

    Reference:
        Hadsell et al. 2006, http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf.
    """

    takes_labels = True
    labels_end_at_1 = True
    takes_products = False
    beyond_unit_range = MappingProxyType({"margin": None})

    def __init__(self, *, margin: float = 0.5, similarity: SimilarityName = "cosine") -> None:
        """Set the distance beyond which different pairs are let be."""
        super().__init__(similarity=similarity)
        self.margin = margin

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the labelled pairs."""
        alike, labels = labelled_similarities(embeddings, targets, "contrastive", self.similarity)
        distances = self.similarity.distance(alike)
        shortfalls = F.relu(self.margin - distances)
        return (labels * distances**2 + (1 - labels) * shortfalls**2).mean() / 2
