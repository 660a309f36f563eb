import numpy as np
import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.kl_distillation import KLDistillation
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import student_scores, value
from tests.losses.theirs import assert_theirs, columns_of, theirs


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_formula(similarity):
    embeddings = embeddings_of("kl_distillation")
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    student = student_scores(embeddings, similarity)

    def softmax(scores):
        return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    target, ours = softmax(teacher.numpy() / 2.0), softmax(student / 0.7)
    divergences = (target * np.log(target / ours)).sum(axis=1)
    distillation = KLDistillation(
        similarity=similarity, student_temperature=0.7, teacher_temperature=2.0
    )
    loss = value(distillation, embeddings, teacher_scores=teacher)
    assert loss == pytest.approx(divergences.mean(), rel=1e-5)


def test_a_student_who_agrees_with_the_teacher_has_no_loss():
    embeddings = embeddings_of("kl_distillation", dtype=torch.float32)
    scores = (embeddings[0] * embeddings[1:]).sum(-1).T.detach()
    alike = KLDistillation(similarity="dot", student_temperature=1.0)
    assert value(alike, embeddings, teacher_scores=scores + 7) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [3, 5])
def test_it_is_that_of_sentence_transformers_without_its_factor(columns):
    teacher = torch.randn(6, columns - 1, generator=torch.Generator().manual_seed(5))
    expected = theirs(
        "DistillKLDivLoss",
        columns_of(columns),
        teacher,
        student_temperature=2.0,
        teacher_temperature=0.5,
    )
    ours = KLDistillation(similarity="dot", student_temperature=2.0, teacher_temperature=0.5)
    targets = PairTargets(teacher_scores=teacher)
    assert_theirs(ours, columns_of(columns), targets, expected / 2.0**2)
