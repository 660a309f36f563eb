import numpy as np
import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.cosent import CoSENT
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import GRADED, cosines_of, value
from tests.losses.theirs import assert_theirs, columns_of, theirs


def test_the_formula():
    embeddings, labels = embeddings_of("cosent"), GRADED.tolist()
    s = cosines_of(embeddings)
    total = sum(
        np.exp((s[j] - s[i]) / 0.1) for i in range(6) for j in range(6) if labels[i] > labels[j]
    )
    loss = value(CoSENT(temperature=0.1), embeddings, labels=GRADED)
    assert loss == pytest.approx(np.log(1 + total))


def test_it_asks_nothing_of_equal_labels():
    embeddings = embeddings_of("cosent")
    loss = CoSENT()(embeddings, PairTargets(labels=torch.full((6,), 0.5)))
    loss.backward()
    assert loss == 0
    assert embeddings.grad.count_nonzero() == 0


@pytest.mark.slow
def test_it_is_that_of_sentence_transformers():
    expected = theirs("CoSENTLoss", columns_of(2), GRADED, scale=20.0)
    assert_theirs(CoSENT(temperature=0.05), columns_of(2), PairTargets(labels=GRADED), expected)
