import numpy as np
import pytest

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.cosine import Cosine
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import GRADED, cosines_of, value
from tests.losses.theirs import assert_theirs, columns_of, theirs


def test_the_formula():
    embeddings = embeddings_of("cosine")
    squares = [(s - y) ** 2 for s, y in zip(cosines_of(embeddings), GRADED.tolist(), strict=True)]
    assert value(Cosine(), embeddings, labels=GRADED) == pytest.approx(np.mean(squares))


@pytest.mark.slow
def test_it_is_that_of_sentence_transformers():
    expected = theirs("CosineSimilarityLoss", columns_of(2), GRADED)
    assert_theirs(Cosine(), columns_of(2), PairTargets(labels=GRADED), expected)
