"""Distillation: rank an anchor's candidates with a teacher's probabilities."""

from types import MappingProxyType

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.config.section import SimilarityName
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.base import PairLoss
from kl3m_embeddings.losses.similarity import in_fp32
from kl3m_embeddings.losses.targets import scores_of_teacher


class KLDistillation(PairLoss):
    """Kullback-Leibler divergence of the student's distribution over candidates from the teacher's.

    sum over candidates c of P(c) log( P(c) / Q(c) ), with
    P = softmax(teacher(a,c) / teacher_temperature), Q = softmax(s(a,c) / student_temperature)

    Inputs:
        pairs with at least one hard negative, and teacher_scores; the positive and the row's own
        negatives are the candidates.

    Relations:
        DistillKLDivLoss (sentence-transformers) multiplies by student_temperature squared, and
        takes dot products unless told. InfoNCE over the row's candidates is the limit of a certain
        teacher.

    Reference:
        Hinton et al. 2015, https://arxiv.org/abs/1503.02531. For retrieval: Lin et al. 2020,
        https://arxiv.org/abs/2010.11386.
    """

    needs_scores = True
    beyond_unit_range = MappingProxyType({"student_temperature": 1.0})

    def __init__(
        self,
        *,
        student_temperature: float = 0.05,
        teacher_temperature: float = 1.0,
        similarity: SimilarityName = "cosine",
    ) -> None:
        """Set what makes the two distributions comparable."""
        super().__init__(similarity=similarity)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature

    def forward(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> Float[Tensor, ""]:
        """Mean over the pairs."""
        teacher = in_fp32(scores_of_teacher(embeddings, targets, "kl_distillation"))
        # Of shape (pairs, candidates), the positive first.
        student = self.similarity(embeddings[0], embeddings[1:]).T
        return F.kl_div(
            F.log_softmax(student / self.student_temperature, dim=1),
            F.log_softmax(teacher / self.teacher_temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
