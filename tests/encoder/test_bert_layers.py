"""Layers of BERT and its kin by our kernels: as near to float32 as transformers' own."""

import copy

import pytest
import torch
from transformers import AutoModel

from kl3m_embeddings.encoder import bert_layers, native_library
from kl3m_embeddings.encoder.bert_layers import BERT_TYPES
from kl3m_embeddings.encoder.packing import speed_up, stock_hidden_states
from tests.encoder.test_packing import NO_DROPOUT, batch
from tests.encoder.tiny import tiny_config

pytestmark = pytest.mark.skipif(
    native_library.library() is None, reason="needs AVX-512's bfloat16 and a C++ compiler"
)


def networks(model_type, **changes):
    """transformers', and a copy that was sped up."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "embedding_size": 64}
    config = tiny_config(model_type, **(sizes | NO_DROPOUT | changes))
    stock = AutoModel.from_config(config, dtype=torch.float32).train()
    fast = copy.deepcopy(stock)
    speed_up(fast)
    return stock, fast


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels are taken."""
    found = []
    for name in ("project_add_norm", "feed_forward"):
        inner = getattr(bert_layers, name)

        def counted(*arguments, name=name, inner=inner):
            found.append(name)
            return inner(*arguments)

        monkeypatch.setattr(bert_layers, name, counted)
    return found


def results(encode, network):
    """Hidden states of the tokens, and all gradients in one."""
    input_ids, attention_mask = batch()
    states = encode(input_ids, attention_mask)[attention_mask].float()
    weights = torch.linspace(-1, 1, states.numel()).view_as(states)
    (states * weights).sum().backward()
    grads = [(name, one.grad) for name, one in network.named_parameters() if one.grad is not None]
    return states.detach(), torch.cat([grad.flatten() for _, grad in sorted(grads)])


@pytest.mark.parametrize("model_type", sorted(BERT_TYPES))
def test_outputs_and_gradients_are_nearer_to_float32_than_without(model_type, calls, monkeypatch):
    """Nearer than those of our other code for bfloat16; outputs about as near as transformers'."""
    stock, fast = networks(model_type)

    def stocks(ids, mask):
        return stock(ids, attention_mask=mask.long()).last_hidden_state

    def ours(ids, mask):
        return stock_hidden_states(fast, ids, mask)

    exact = results(stocks, stock)
    stock.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        theirs, mine = results(stocks, stock), results(ours, fast)
        num_calls = len(calls)
        fast.zero_grad()
        monkeypatch.setattr(bert_layers, "is_native", lambda *_: False)
        plain = results(ours, fast)
    assert num_calls == len(calls) == 2 * fast.config.num_hidden_layers
    errors = {
        name: [(one - wanted).norm() for one, wanted in zip(found, exact, strict=True)]
        for name, found in (("mine", mine), ("plain", plain), ("theirs", theirs))
    }
    assert errors["mine"][0] < 1.2 * errors["theirs"][0]
    assert all(
        one < 1.1 * other for one, other in zip(errors["mine"], errors["plain"], strict=True)
    )


def test_float32_and_other_activations_keep_transformers_code(calls):
    _, fast = networks("bert")
    stock_hidden_states(fast, *batch())
    assert calls == []
    _, other = networks("bert", hidden_act="relu")
    with torch.autocast("cpu", torch.bfloat16):
        stock_hidden_states(other, *batch())
    assert set(calls) == {"project_add_norm"}


def test_dropout_follows_the_seed_and_stops_with_training():
    _, fast = networks("bert", hidden_dropout_prob=0.2)

    def encoded(seed):
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16):
            return stock_hidden_states(fast, *batch())

    assert torch.equal(encoded(1), encoded(1)) and not torch.equal(encoded(1), encoded(2))
    fast.eval()
    assert torch.equal(encoded(1), encoded(2))
