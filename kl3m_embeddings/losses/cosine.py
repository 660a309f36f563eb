"""Cosine regression: the cosine of a pair should be its label."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.targets import labelled_similarities


class Cosine(PairLoss):
    """Squared difference of a pair's cosine and its label.

    (s(a,b) - y)^2

    Inputs:
        two columns and labels in -1..1; or no labels and hard negatives, then y is 1 for the
        positive and 0 for each negative.

    Relations:
        CosineSimilarityLoss (sentence-transformers). CoSENT needs the labels' order only, and
        ranks better as a rule.

    Reference:
        Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084.
    """

    takes_labels = True
    labels_end_at_1 = True
    takes_products = False
    takes_distances = False

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the scored pairs."""
        cosines, labels = labelled_similarities(embeddings, targets, "cosine", self.similarity)
        return F.mse_loss(cosines, labels)
