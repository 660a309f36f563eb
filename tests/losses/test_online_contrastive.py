import numpy as np
import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.online_contrastive import OnlineContrastive
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import BINARY, cosines_of, value
from tests.losses.theirs import assert_theirs, columns_of, theirs

PAIRS = 6


@pytest.mark.parametrize("labels", [BINARY, torch.ones(6), torch.zeros(6)])
def test_the_formula(labels):
    embeddings = embeddings_of("contrastive", seed=1)
    distances = 1 - np.array(cosines_of(embeddings))
    similar, different = distances[labels == 1], distances[labels == 0]
    lower = different.min() if len(different) else similar.mean()
    upper = similar.max() if len(similar) else different.mean()
    hard_similar, hard_different = similar[similar > lower], different[different < upper]
    assert 0 < len(hard_similar) + len(hard_different) < 6
    total = (hard_similar**2).sum() + (np.maximum(0, 1.1 - hard_different) ** 2).sum()
    loss = value(OnlineContrastive(margin=1.1), embeddings, labels=labels)
    assert loss == pytest.approx(total / 6)


def test_pairs_in_perfect_order_are_not_hard():
    embeddings = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.1], [0.5, 1.0]]])
    assert value(OnlineContrastive(margin=2.0), embeddings, labels=torch.tensor([1.0, 0.0])) == 0


@pytest.mark.slow
@pytest.mark.parametrize("labels", [BINARY, torch.ones(PAIRS), torch.zeros(PAIRS)])
def test_it_is_that_of_sentence_transformers_over_the_number_of_pairs(labels):
    expected = theirs("OnlineContrastiveLoss", columns_of(2), labels, margin=1.1)
    assert expected > 0
    targets = PairTargets(labels=labels)
    assert_theirs(OnlineContrastive(margin=1.1), columns_of(2), targets, expected / PAIRS)
