import pytest
import torch

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.matryoshka import Matryoshka
from tests.losses.batches import embeddings_of, targets_for
from tests.losses.theirs import Stub, assert_theirs, columns_of


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_weighted_sum_of_the_loss_at_each_truncation(name):
    embeddings = embeddings_of(name)
    targets = targets_for(embeddings)
    loss = LOSSES[name]()
    parts = [loss(embeddings[..., :dim], targets) for dim in (8, 3, 2)]
    plain = Matryoshka(loss, [8, 3, 2])(embeddings, targets)
    torch.testing.assert_close(plain, sum(parts))
    weighted = Matryoshka(loss, [8, 3, 2], [1.0, 0.5, 2.0])(embeddings, targets)
    torch.testing.assert_close(weighted, parts[0] + 0.5 * parts[1] + 2 * parts[2])


def test_dimensions_beyond_the_largest_truncation_are_not_trained():
    embeddings = embeddings_of("infonce")
    Matryoshka(LOSSES["infonce"](), [5, 2])(embeddings, targets_for(embeddings)).backward()
    assert embeddings.grad[..., :5].all()
    assert embeddings.grad[..., 5:].count_nonzero() == 0


def test_the_parameters_of_the_loss_are_its_own():
    loss = Matryoshka(LOSSES["infonce"](learn_temperature=True), [4])
    assert [name for name, _ in loss.named_parameters()] == ["loss.raw_temperature"]


@pytest.mark.parametrize("dims", [[], [0], [4, -1]])
def test_dims_must_be_sizes(dims):
    with pytest.raises(ConfigError, match="matryoshka: dims: "):
        Matryoshka(LOSSES["infonce"](), dims)


def test_weights_must_be_as_many_as_dims():
    with pytest.raises(ConfigError, match="matryoshka: weights: 1 for 2 dims"):
        Matryoshka(LOSSES["infonce"](), [4, 2], [1.0])


def test_dims_must_not_exceed_the_embedding():
    embeddings = embeddings_of("infonce")
    loss = Matryoshka(LOSSES["infonce"](), [8, 16])
    with pytest.raises(ConfigError, match=r"dims: 16 is larger than the embedding \(8\)"):
        loss(embeddings, targets_for(embeddings))


@pytest.mark.slow
def test_it_is_that_of_sentence_transformers():
    from sentence_transformers.sentence_transformer import losses

    model = Stub()
    loss = losses.MatryoshkaLoss(
        model, losses.MultipleNegativesRankingLoss(model), [8, 4, 2], [1.0, 0.5, 0.25]
    )
    expected = loss([{"embedding": column} for column in columns_of(3)], None)
    ours = Matryoshka(LOSSES["infonce"](), [8, 4, 2], [1.0, 0.5, 0.25])
    assert_theirs(ours, columns_of(3), PairTargets(), expected)
