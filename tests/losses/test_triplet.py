import numpy as np
import pytest

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.triplet import Triplet
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import cosine, value
from tests.losses.theirs import assert_theirs, columns_of, theirs


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
def test_the_formula(distance):
    embeddings = embeddings_of("triplet")
    anchors, positives, *negatives = embeddings.detach().numpy()

    def apart(first, second):
        if distance == "cosine":
            return 1 - cosine(first, second)
        return np.linalg.norm(first - second, ord={"euclidean": 2, "manhattan": 1}[distance])

    terms = [
        max(0, apart(a, p) - apart(a, n) + 0.1)
        for column in negatives
        for a, p, n in zip(anchors, positives, column, strict=True)
    ]
    assert 0 in terms
    loss = value(Triplet(margin=0.1, similarity=distance), embeddings)
    assert loss == pytest.approx(np.mean(terms))


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "manhattan"])
def test_it_is_that_of_sentence_transformers(distance):
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric

    metric = getattr(TripletDistanceMetric, distance.upper())
    expected = theirs("TripletLoss", columns_of(3), distance_metric=metric, triplet_margin=0.7)
    assert_theirs(Triplet(margin=0.7, similarity=distance), columns_of(3), PairTargets(), expected)
