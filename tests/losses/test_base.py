"""What losses say of themselves is what they do."""

from dataclasses import replace

import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses import LOSSES
from tests.losses.batches import embeddings_of, targets_for

OF_PAIRS = [name for name in LOSSES if name != "ssd"]  # which takes quads


@pytest.mark.parametrize("name", LOSSES)
def test_a_pair_alone_has_loss_0_where_two_are_needed(name):
    columns = 2 if LOSSES[name].has_in_batch_negatives else None
    embeddings = embeddings_of(name, columns=columns, pairs=1)
    targets = replace(
        targets_for(embeddings), labels=torch.ones(1) if len(embeddings) == 2 else None
    )
    value = LOSSES[name]()(embeddings, targets)
    assert (value.item() == 0) == LOSSES[name].needs_two_pairs


@pytest.mark.parametrize("name", OF_PAIRS)
def test_pairs_without_labels_or_negatives_are_for_in_batch_negatives(name):
    embeddings = embeddings_of(name, columns=2)
    if LOSSES[name].has_in_batch_negatives:
        assert LOSSES[name]()(embeddings, PairTargets()) > 0
    else:
        with pytest.raises(ConfigError, match=f"loss {name}: "):
            LOSSES[name]()(embeddings, PairTargets())


@pytest.mark.parametrize("name", LOSSES)
def test_labels_change_the_loss_where_they_are_taken(name):
    embeddings = embeddings_of(name, columns=2 if LOSSES[name].has_in_batch_negatives else None)
    targets = targets_for(embeddings)
    values = [
        LOSSES[name]()(embeddings, replace(targets, labels=labels))
        for labels in (torch.tensor([0.0, 1.0] * 3), torch.tensor([1.0, 0.0] * 3))
    ]
    assert (values[0] != values[1]) == LOSSES[name].takes_labels


@pytest.mark.parametrize("name", LOSSES)
def test_teacher_scores_are_missed_where_they_are_needed(name):
    embeddings = embeddings_of(name)
    targets = replace(targets_for(embeddings), teacher_scores=None)
    if LOSSES[name].needs_scores:
        with pytest.raises(ConfigError, match="no teacher scores"):
            LOSSES[name]()(embeddings, targets)
    else:
        assert LOSSES[name]()(embeddings, targets) > 0


def test_what_ends_at_1_is_a_label():
    assert {name for name in LOSSES if LOSSES[name].labels_end_at_1} == {
        "cosine", "contrastive", "online_contrastive"
    }  # fmt: skip
    assert all(one.takes_labels for one in LOSSES.values() if one.labels_end_at_1)
