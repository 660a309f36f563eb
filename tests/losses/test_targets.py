"""What losses ask of their targets, and what they say where it is not there."""

import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses import LOSSES
from tests.losses.batches import embeddings_of

LABELLED = ["cosine", "contrastive", "online_contrastive", "cosent"]


@pytest.mark.parametrize("name", LABELLED)
def test_without_labels_positives_are_1_and_negatives_0(name):
    embeddings = embeddings_of(columns=4)
    anchors, candidates = embeddings[:1].expand(3, -1, -1), embeddings[1:]
    flat = torch.stack([anchors.flatten(0, 1), candidates.flatten(0, 1)])
    labels = torch.tensor([1.0, 0.0, 0.0]).repeat_interleave(6)
    loss = LOSSES[name]()
    torch.testing.assert_close(
        loss(embeddings, PairTargets()), loss(flat, PairTargets(labels=labels))
    )


@pytest.mark.parametrize("name", LABELLED)
def test_labels_must_be_given_or_follow_from_negatives(name):
    with pytest.raises(ConfigError, match=f"loss {name}: .*neither labels nor negatives"):
        LOSSES[name]()(embeddings_of(columns=2), PairTargets())
    with pytest.raises(ConfigError, match=f"loss {name}: .*negatives too"):
        LOSSES[name]()(embeddings_of(columns=3), PairTargets(labels=torch.ones(6)))


@pytest.mark.parametrize("name", ["triplet", "margin_mse", "kl_distillation"])
def test_negatives_must_be_there(name):
    with pytest.raises(ConfigError, match=f"loss {name}: the pairs have no negatives"):
        LOSSES[name]()(embeddings_of(columns=2), PairTargets())


@pytest.mark.parametrize("name", ["margin_mse", "kl_distillation"])
def test_teacher_scores_must_be_there(name):
    with pytest.raises(ConfigError, match=f"loss {name}: the pairs have no teacher scores"):
        LOSSES[name]()(embeddings_of(columns=3), PairTargets())
