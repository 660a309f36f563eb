"""CoSENT: pairs should be ranked by similarity as they are by label."""

from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.targets import labelled_similarities


class CoSENT(PairLoss):
    """A smooth count of the pairs of pairs that stand in the wrong order.

    log( 1 + sum over i, j with y_i > y_j of exp((s_j - s_i) / t) )

    Equal labels ask for nothing; a batch of equal labels, or of one pair, has loss 0, gradient 0.

    Inputs:
        two columns and labels of any scale; or no labels and hard negatives, then y is 1 for the
        positive and 0 for each negative.

    Relations:
        CoSENTLoss (sentence-transformers), with scale = 1 / t. A smooth Spearman, where Cosine
        is a least-squares fit. One value a batch: it is not a mean over pairs.

    Reference:
        Su 2022, https://kexue.fm/archives/8847.
    """

    takes_labels = True
    needs_two_pairs = True
    beyond_unit_range = MappingProxyType({"temperature": 1.0})

    def __init__(self, *, temperature: float = 0.05, similarity: SimilarityName = "cosine") -> None:
        """Set the temperature t."""
        super().__init__(similarity=similarity)
        self.temperature = temperature

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """The batch's loss."""
        alike, labels = labelled_similarities(embeddings, targets, "cosent", self.similarity)
        # (scored, scored): entry (i, j) is (s_j - s_i) / t.
        excesses = (alike[None, :] - alike[:, None]) / self.temperature
        in_order = labels[:, None] > labels[None, :]
        terms = torch.where(in_order, excesses, float("-inf")).flatten()
        # The 1 of the formula is exp(0).
        return torch.cat([terms.new_zeros(1), terms]).logsumexp(dim=0)
