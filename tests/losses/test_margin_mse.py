import numpy as np
import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.margin_mse import MarginMSE
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import student_scores, value
from tests.losses.theirs import assert_theirs, columns_of, theirs


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_formula(similarity):
    embeddings = embeddings_of("margin_mse")
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    student = student_scores(embeddings, similarity)
    squares = [
        ((student[i, 0] - student[i, n]) - (teacher[i, 0] - teacher[i, n]).item()) ** 2
        for i in range(6)
        for n in (1, 2)
    ]
    loss = value(MarginMSE(similarity=similarity), embeddings, teacher_scores=teacher)
    assert loss == pytest.approx(np.mean(squares), rel=1e-5)


def test_a_student_who_agrees_with_the_teacher_has_no_loss():
    embeddings = embeddings_of("margin_mse", dtype=torch.float32)
    scores = (embeddings[0] * embeddings[1:]).sum(-1).T.detach()
    assert value(
        MarginMSE(similarity="dot"), embeddings, teacher_scores=scores + 7
    ) == pytest.approx(0, abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [3, 5])
def test_it_is_that_of_sentence_transformers(columns):
    teacher = torch.randn(6, columns - 1, generator=torch.Generator().manual_seed(5))
    expected = theirs("MarginMSELoss", columns_of(columns), teacher)
    targets = PairTargets(teacher_scores=teacher)
    assert_theirs(MarginMSE(similarity="dot"), columns_of(columns), targets, expected)
