import numpy as np
import pytest

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.contrastive import Contrastive
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import BINARY, cosines_of, value
from tests.losses.theirs import assert_theirs, columns_of, theirs


def test_the_formula():
    embeddings = embeddings_of("contrastive")
    terms = [
        ((1 - s) if y else max(0, 0.8 - (1 - s))) ** 2 / 2
        for s, y in zip(cosines_of(embeddings), BINARY.tolist(), strict=True)
    ]
    loss = value(Contrastive(margin=0.8), embeddings, labels=BINARY)
    assert loss == pytest.approx(np.mean(terms))


@pytest.mark.slow
def test_it_is_that_of_sentence_transformers():
    expected = theirs("ContrastiveLoss", columns_of(2), BINARY, margin=0.9)
    targets = PairTargets(labels=BINARY)
    assert_theirs(Contrastive(margin=0.9), columns_of(2), targets, expected)
