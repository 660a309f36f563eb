"""Online contrastive loss: the contrastive loss of the batch's hard pairs."""

from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.targets import labelled_similarities


class OnlineContrastive(PairLoss):
    """The contrastive loss, of hard pairs only.

    d^2 of the similar pairs that are farther apart than the closest different pair, and
    max(0, margin - d)^2 of the different pairs that are closer than the farthest similar pair, with
    d the distance, 1 - s(a,b) of cosines. Where a batch has one kind only, its mean distance is the
    bound.

    Inputs:
        two columns and labels (above 0.5: similar); or no labels and hard negatives, then the
        positive is similar, each negative different.

    Relations:
        OnlineContrastiveLoss (sentence-transformers) returns the sum over the hard pairs; this is
        that sum over the number of all pairs, so that a larger batch has no larger gradient.

    Reference:
        https://sbert.net/docs/package_reference/sentence_transformer/losses.html#onlinecontrastiveloss
    """

    takes_labels = True
    labels_end_at_1 = True
    needs_two_pairs = True
    takes_products = False
    beyond_unit_range = MappingProxyType({"margin": None})

    def __init__(self, *, margin: float = 0.5, similarity: SimilarityName = "cosine") -> None:
        """Set the distance beyond which different pairs are let be."""
        super().__init__(similarity=similarity)
        self.margin = margin

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Sum over the hard pairs / number of pairs."""
        alike, labels = labelled_similarities(
            embeddings, targets, "online_contrastive", self.similarity
        )
        distances = self.similarity.distance(alike)
        similar = labels > 0.5
        hard = _hard(distances.detach(), similar)
        shortfalls = F.relu(self.margin - distances)
        losses = torch.where(similar, distances, shortfalls) ** 2
        return torch.where(hard, losses, 0.0).mean()


def _hard(
    distances: Float[Tensor, " scored"], similar: Bool[Tensor, " scored"]
) -> Bool[Tensor, " scored"]:
    """Pairs that overlap with the other kind.

    Found by masks: to index by them would make shapes that depend on data, and the host would wait
    for the device to know them.
    """
    mean = distances.mean()
    farthest_similar = torch.where(similar, distances, float("-inf")).max()
    closest_different = torch.where(similar, float("inf"), distances).min()
    upper = torch.where(similar.any(), farthest_similar, mean)
    lower = torch.where(similar.all(), mean, closest_different)
    return torch.where(similar, distances > lower, distances < upper)
