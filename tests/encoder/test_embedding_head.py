import pytest
import torch
import torch.nn.functional as F

from kl3m_embeddings.encoder.embedding_head import ACTIVATIONS, DenseSettings, EmbeddingHead
from kl3m_embeddings.encoder.pooling import POOLINGS
from kl3m_embeddings.errors import ConfigError

DENSE = (
    DenseSettings(in_features=6, out_features=4),
    DenseSettings(in_features=4, out_features=3, bias=False, activation="GELU"),
)


def states():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 5, 6, generator=generator)
    return hidden, torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def test_the_parts_follow_one_another():
    hidden, mask = states()
    head = EmbeddingHead(6, pooling="max", dense=DENSE, normalise=True)
    first, second = (layer.linear for layer in head.dense)
    expected = torch.tanh(POOLINGS["max"](hidden, mask) @ first.weight.T + first.bias)
    expected = F.normalize(F.gelu(expected @ second.weight.T), dim=-1)
    torch.testing.assert_close(head(hidden, mask), expected)
    assert head.embedding_size == 3
    assert [*head.state_dict()] == [
        "dense.0.linear.weight",
        "dense.0.linear.bias",
        "dense.1.linear.weight",
    ]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_without_dense_layers_it_pools(pooling):
    hidden, mask = states()
    head = EmbeddingHead(6, pooling=pooling)
    assert torch.equal(head(hidden, mask), POOLINGS[pooling](hidden, mask))
    assert head.embedding_size == 6
    assert not head.state_dict()


def test_bf16_states_autocast_and_bf16_weights_compute_in_fp32():
    hidden, mask = states()
    hidden = hidden.bfloat16()
    head = EmbeddingHead(6, dense=DENSE, normalise=True).bfloat16()
    weights = {name: tensor.float() for name, tensor in head.state_dict().items()}
    exact = EmbeddingHead(6, dense=DENSE, normalise=True)
    exact.load_state_dict(weights)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = head(hidden, mask)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, exact(hidden.float(), mask), rtol=0, atol=1e-6)
    vectors.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_found_by_their_names_in_torch(activation):
    assert ACTIVATIONS[activation] is getattr(torch.nn, activation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "weightedmean"}, "pooling: 'weightedmean' is unknown: use one of cls, max"),
        ({"dense": DENSE[1:]}, "dense layer 1: in_features is 4, but it gets 6"),
        ({"dense": (DENSE[0], DENSE[0])}, "dense layer 2: in_features is 6, but it gets 4"),
        (
            {"dense": [DenseSettings(in_features=6, out_features=1, activation="tanh")]},
            "dense layer 1: activation 'tanh' is unknown",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EmbeddingHead(6, **settings)
