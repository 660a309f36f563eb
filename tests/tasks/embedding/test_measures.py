"""What is told of a batch, by hand: pair by pair, with the texts that do not count left out."""

import numpy as np
import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses.similarity import SIMILARITIES
from kl3m_embeddings.tasks.embedding.measures import in_batch_measures
from tests.losses.by_hand import ALIKE

COLUMNS, PAIRS = 3, 6


def random(seed=0):
    return torch.randn(COLUMNS, PAIRS, 5, generator=torch.Generator().manual_seed(seed))


def by_hand(embeddings, ids=None, name="cosine"):
    alike = ALIKE[name]
    vectors = embeddings.double().numpy()
    hits, positives, negatives = [], [], []
    for i in range(PAIRS):
        own = alike(vectors[0, i], vectors[1, i])
        others = [
            alike(vectors[0, i], vectors[column, j])
            for column in range(1, COLUMNS)
            for j in range(PAIRS)
            if (column, j) != (1, i)
            and (
                ids is None
                or (
                    ids[column][j] not in (ids[0][i], ids[1][i])
                    # a positive of an anchor that is this one's text
                    and not (column == 1 and ids[0][j] == ids[0][i])
                )
            )
        ]
        hits.append(own > max(others, default=-np.inf))
        positives.append(own)
        negatives += others
    return {
        "accuracy": np.mean(hits),
        "mean_sim_positive": np.mean(positives),
        "mean_sim_negative": np.mean(negatives),
    }


def measured(embeddings, name="cosine", **targets):
    found = in_batch_measures(embeddings, PairTargets(**targets), SIMILARITIES[name])
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("seed", range(4))
def test_every_other_text_of_the_batch_is_a_rival(seed, name):
    expected = by_hand(random(seed), name=name)
    assert measured(random(seed), name) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_equal_texts_are_no_rivals():
    """Row 2's anchor is row 0's; row 3's positive is row 1's; one negative is row 4's positive."""
    ids = torch.arange(COLUMNS * PAIRS).reshape(COLUMNS, PAIRS)
    ids[0, 2], ids[1, 3], ids[2, 5] = ids[0, 0], ids[1, 1], ids[1, 4]
    embeddings = random()
    for one, other in (((0, 2), (0, 0)), ((1, 3), (1, 1)), ((2, 5), (1, 4))):
        embeddings[one] = embeddings[other]
    found = measured(embeddings, text_groups=ids)
    assert found == pytest.approx(by_hand(embeddings, ids.tolist()), rel=1e-5)
    assert found != pytest.approx(measured(embeddings), rel=1e-3)


def test_perfect_and_collapsed_embeddings():
    one = torch.eye(PAIRS)
    assert measured(torch.stack([one, one])) == {
        "accuracy": 1.0, "mean_sim_positive": 1.0, "mean_sim_negative": 0.0
    }  # fmt: skip
    equal = torch.ones(2, PAIRS, 4)
    assert measured(equal) == pytest.approx(
        {"accuracy": 0.0, "mean_sim_positive": 1.0, "mean_sim_negative": 1.0}
    )


def test_a_pair_alone_has_no_rival_and_gradients_are_not_recorded():
    pair = torch.ones(2, 1, 4, requires_grad=True)
    found = in_batch_measures(pair, PairTargets(), SIMILARITIES["dot"])
    assert found["accuracy"] == 1 and found["mean_sim_negative"] == 0
    assert not any(value.requires_grad for value in found.values())
