import numpy as np
import pytest
import torch

from kl3m_embeddings.losses.similarity import SIMILARITIES
from kl3m_embeddings.losses.ssd import SSD, mean_similarities
from tests.losses.batches import embeddings_of
from tests.losses.by_hand import cosine, value


def test_the_formula():
    embeddings = embeddings_of("ssd")
    same, similar, different, losses = [], [], [], []
    for a, other_a, b, c in embeddings.detach().numpy().swapaxes(0, 1):
        same.append(cosine(a, other_a))
        similar.append([cosine(a, b), cosine(other_a, b)])
        different.append([cosine(a, c), cosine(other_a, c), cosine(b, c)])
        terms = [1 - same[-1]]
        terms += [-0.5 * s for s in similar[-1]]
        terms += [0.33 * (1 + s) for s in different[-1]]
        losses.append(np.log(np.exp(terms).sum()))
    assert value(SSD(), embeddings) == pytest.approx(np.mean(losses))
    means = {
        name: mean.item()
        for name, mean in mean_similarities(embeddings, SIMILARITIES["cosine"]).items()
    }
    assert means == pytest.approx(
        {
            "mean_sim_same": np.mean(same),
            "mean_sim_similar": np.mean(similar),
            "mean_sim_diff": np.mean(different),
        }
    )


def test_the_least_loss_is_the_one_in_its_docstring():
    one = torch.tensor([[1.0, 0.0]])
    best = torch.stack([one, one, one, -one])
    assert value(SSD(), best) == pytest.approx(np.log(1 + 2 * np.exp(-0.5) + 3))
    assert value(SSD(), best) == pytest.approx(1.65, abs=0.01)
