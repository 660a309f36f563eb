"""Margin-MSE: learn a teacher's gap between the positive and the negatives."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.similarity import in_fp32
from kl3m_embeddings.losses.targets import scores_of_teacher


class MarginMSE(PairLoss):
    """Squared difference of the student's and the teacher's margins.

    ( (s(a,p) - s(a,n)) - (teacher(a,p) - teacher(a,n)) )^2

    Inputs:
        pairs with at least one hard negative, and teacher_scores. The margins must be reachable: a
        difference of cosines lies in -2..2, a cross-encoder's often does not; one of dot products
        has no bound.

    Relations:
        MarginMSELoss (sentence-transformers), which takes dot products unless told, as published.
        KLDistillation needs no common scale.

    Reference:
        Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666.
    """

    needs_scores = True
    fits_margins = True

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the negatives of all pairs."""
        teacher = in_fp32(scores_of_teacher(embeddings, targets, "margin_mse"))
        # Of shape (pairs, candidates), the positive first.
        student = self.similarity(embeddings[0], embeddings[1:]).T
        return F.mse_loss(student[:, :1] - student[:, 1:], teacher[:, :1] - teacher[:, 1:])
