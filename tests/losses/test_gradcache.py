import pytest
import torch
from torch import nn

from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.losses import LOSSES
from kl3m_embeddings.losses.gradcache import cached_gradients, surrogate
from kl3m_embeddings.losses.matryoshka import Matryoshka
from tests.losses.batches import embeddings_of, targets_for

COLUMNS, PAIRS, LENGTH, VOCABULARY = 4, 12, 7, 50
NUM_TEXTS = COLUMNS * PAIRS


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)
    return nn.ModuleList([nn.Embedding(VOCABULARY, 16), layer])


def embed(model, input_ids, chunk):
    """Embeddings of a chunk of texts, under the chunk's own seed."""
    torch.manual_seed(1000 + chunk)
    embedding, layer = model
    return layer(embedding(input_ids)).mean(dim=1)


def chunked_texts(chunk_size):
    input_ids = torch.randint(
        VOCABULARY, (NUM_TEXTS, LENGTH), generator=torch.Generator().manual_seed(1)
    )
    return input_ids.split(chunk_size)


def columns_of(chunks):
    return torch.cat(chunks).reshape(COLUMNS, PAIRS, -1)


def gradients_of(*modules):
    return [parameter.grad for module in modules for parameter in module.parameters()]


def plain_step(model, loss, targets, chunks):
    """One backward pass through all chunks' graphs."""
    embeddings = columns_of([embed(model, ids, chunk) for chunk, ids in enumerate(chunks)])
    value = loss(embeddings, targets)
    value.backward()
    return [value.detach()]


def cached_step(model, loss, targets, chunks):
    """The three steps of GradCache; returns the values that are gone backward from."""
    with torch.no_grad():
        embeddings = [embed(model, ids, chunk) for chunk, ids in enumerate(chunks)]
    cached = cached_gradients(loss, columns_of(embeddings), targets)
    gradients = cached.embeddings.reshape(NUM_TEXTS, -1).split([len(ids) for ids in chunks])
    values = []
    for chunk, (ids, gradient) in enumerate(zip(chunks, gradients, strict=True)):
        share = cached.loss * len(ids) / NUM_TEXTS
        values.append(surrogate(embed(model, ids, chunk), gradient, share))
        values[-1].backward()
    for name, parameter in loss.named_parameters():
        surrogate(parameter, cached.parameters[name]).backward()
    return [value.detach() for value in values]


def losses():
    infonce = LOSSES["infonce"]
    options = {"learn_temperature": True, "symmetric": True, "false_negative_margin": 0.1}
    return {
        "everything": lambda: Matryoshka(infonce(**options), [16, 8, 3], [1.0, 0.5, 0.2]),
        **{name: loss for name, loss in LOSSES.items() if name != "infonce"},
    }


@pytest.mark.parametrize("chunk_size", [1, 5, NUM_TEXTS])
@pytest.mark.parametrize("name", losses())
def test_gradients_in_chunks_with_dropout_are_those_of_the_whole_batch(name, chunk_size):
    targets = PairTargets(
        text_groups=torch.arange(NUM_TEXTS).remainder(40).reshape(COLUMNS, PAIRS),
        teacher_scores=torch.randn(PAIRS, 3, generator=torch.Generator().manual_seed(2)),
    )
    results = []
    for step in (plain_step, cached_step):
        model, loss = encoder(), losses()[name]()
        values = step(model, loss, targets, chunked_texts(chunk_size))
        results.append([sum(values), *gradients_of(model, loss)])
    assert results[0][0] > 0
    assert any(gradient.abs().max() > 1e-2 for gradient in results[0][1:])
    for plain, cached in zip(*results, strict=True):
        torch.testing.assert_close(cached, plain, rtol=1e-5, atol=1e-5)


def test_without_the_same_seed_the_gradients_are_not_the_same(monkeypatch):
    model, loss = encoder(), LOSSES["infonce"]()
    plain_step(model, loss, PairTargets(), chunked_texts(5))
    plain = gradients_of(model)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    model.zero_grad()
    cached_step(model, loss, PairTargets(), chunked_texts(5))
    differences = [
        (one - other).abs().max() for one, other in zip(plain, gradients_of(model), strict=True)
    ]
    assert max(differences) > 1e-3


def test_it_works_where_no_gradients_are_recorded_and_leaves_no_graph():
    embeddings = embeddings_of("infonce")
    loss = LOSSES["infonce"](learn_temperature=True)
    with torch.no_grad():
        cached = cached_gradients(loss, embeddings, targets_for(embeddings))
    assert not cached.loss.requires_grad
    assert cached.parameters["raw_temperature"] != 0
    assert loss.raw_temperature.grad is None
    assert embeddings.grad is None


def test_a_frozen_parameter_or_an_unused_text_is_no_error():
    embeddings = embeddings_of("infonce")
    loss = LOSSES["infonce"](learn_temperature=True).requires_grad_(False)
    cached = cached_gradients(loss, embeddings, PairTargets())
    assert cached.parameters == {}
    unused = cached_gradients(UsesNothing(), embeddings, PairTargets())
    assert unused.embeddings.count_nonzero() == unused.parameters["weight"].count_nonzero() == 0


class UsesNothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, embeddings, targets):
        return (embeddings[0] * 0).sum()


def test_scaling_the_surrogate_scales_value_and_gradient():
    outputs = torch.tensor([1.0, 2.0], requires_grad=True)
    value = surrogate(outputs, torch.tensor([3.0, 4.0]), torch.tensor(0.7)) / 2
    value.backward()
    assert value == torch.tensor(0.7) / 2
    assert outputs.grad.tolist() == [1.5, 2.0]
