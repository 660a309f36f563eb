import copy
import json

import pytest
import torch
from torch import nn
from transformers import AutoModel

from kl3m_embeddings.encoder.kernels import native_attention, native_library
from kl3m_embeddings.encoder.kernels.dropout import Dropout
from kl3m_embeddings.encoder.stock import attention, without_padding
from kl3m_embeddings.encoder.stock.without_padding import (
    PACKED_TYPES,
    filling_lengths,
    speed_up,
    stock_hidden_states,
)
from tests.encoder.tiny import PAD_ID, VOCAB_SIZE, tiny_config

TYPES = sorted(PACKED_TYPES | {"mpnet"})
DROPOUT_RATES = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
)
NO_DROPOUT = dict.fromkeys(DROPOUT_RATES, 0.0)


def networks(model_type, **changes):
    """transformers' network, and a copy of it that was sped up."""
    torch.manual_seed(0)
    stock = AutoModel.from_config(tiny_config(model_type, **changes), dtype=torch.float32)
    stock.train()
    fast = copy.deepcopy(stock)
    speed_up(fast)
    return stock, fast


def batch():
    """Rows that are full, padded on the right, on the left, short, and full."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(PAD_ID + 1, VOCAB_SIZE, (5, 24), generator=generator)
    attention_mask = torch.ones(5, 24, dtype=torch.bool)
    attention_mask[1, 17:] = False
    attention_mask[2, :9] = False
    attention_mask[3, 2:] = False
    return input_ids.masked_fill(~attention_mask, PAD_ID), attention_mask


def close(mine, wanted):
    largest = max(1.0, wanted.abs().max().item())
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("num_scores", [2**17, 1], ids=["together", "singly"])
@pytest.mark.parametrize("model_type", TYPES)
def test_outputs_and_gradients_are_those_of_transformers(model_type, num_scores, monkeypatch):
    monkeypatch.setattr(attention, "NUM_SCORES_AT_ONCE", num_scores)
    stock, fast = networks(model_type, **NO_DROPOUT)
    input_ids, attention_mask = batch()
    theirs = stock(input_ids=input_ids, attention_mask=attention_mask.long()).last_hidden_state
    ours = stock_hidden_states(fast, input_ids, attention_mask)
    close(ours[attention_mask], theirs[attention_mask])
    factors = torch.randn(ours.shape) * attention_mask[..., None]
    for states in (ours, theirs):
        (states * factors).sum().backward()
    wanted = dict(stock.named_parameters())
    for name, parameter in fast.named_parameters():
        assert (parameter.grad is None) == (wanted[name].grad is None), name
        if parameter.grad is not None:
            close(parameter.grad, wanted[name].grad)


@pytest.mark.parametrize("model_type", TYPES)
def test_it_sees_no_padding_where_it_can(model_type, monkeypatch):
    _, fast = networks(model_type)
    seen = []
    embeddings = fast.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    input_ids, attention_mask = batch()
    states = stock_hidden_states(fast, input_ids, attention_mask)
    assert states.isfinite().all()
    monkeypatch.setattr(without_padding, "MAX_PACKED_LENGTH", 23)
    stock_hidden_states(fast, input_ids, attention_mask)
    assert attention_mask.sum() == 82
    first = (5, 24) if model_type == "mpnet" else (1, 96)
    assert seen == [first, (5, 24)]


@pytest.mark.parametrize(("num_tokens", "length"), [(82, 24), (4400, 128), (4608, 512), (1, 3)])
def test_tokens_are_filled_up_by_rows_that_fit(num_tokens, length):
    rows = filling_lengths(num_tokens, length)
    wanted = {82: 96, 4400: 4608, 4608: 4608, 1: 32}[num_tokens]
    assert num_tokens + sum(rows) == wanted
    assert all(0 < row <= length for row in rows)


def test_numbers_of_tokens_are_few_and_little_is_added():
    numbers = range(1024, 16385)
    filled = [number + sum(filling_lengths(number, 128)) for number in numbers]
    assert len(set(filled)) <= 4 * 16 + 1
    assert max(one / number for one, number in zip(filled, numbers, strict=True)) < 1 + 1 / 16


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_without_row_groups_it_is_the_network_of_transformers(model_type):
    stock, fast = networks(model_type, **NO_DROPOUT)
    input_ids, attention_mask = batch()
    theirs = stock(input_ids=input_ids, attention_mask=attention_mask.long()).last_hidden_state
    ours = fast(input_ids=input_ids, attention_mask=attention_mask.long()).last_hidden_state
    assert torch.equal(ours[attention_mask], theirs[attention_mask])


def test_a_row_without_tokens_is_zero():
    _, fast = networks("bert")
    input_ids, attention_mask = batch()
    attention_mask[1] = False
    states = stock_hidden_states(fast, input_ids, attention_mask)
    assert (states[1] == 0).all()
    assert (states[0] != 0).any()


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_saved_is_what_transformers_saves(model_type, tmp_path):
    stock, fast = networks(model_type)
    assert list(fast.state_dict()) == list(stock.state_dict())
    for name, network in (("stock", stock), ("fast", fast)):
        network.save_pretrained(tmp_path / name)
    configs = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "fast")
    ]
    assert configs[0] == configs[1]
    assert AutoModel.from_pretrained(tmp_path / "fast").config._attn_implementation == "sdpa" or (
        model_type == "mpnet"
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_every_dropout_is_replaced_and_follows_the_seed(model_type):
    torch.use_deterministic_algorithms(True)
    try:
        rates = dict.fromkeys(DROPOUT_RATES, 0.2)
        stock, fast = networks(model_type, **rates)
        assert not [one for one in fast.modules() if type(one) is nn.Dropout]
        assert sum(isinstance(one, Dropout) for one in fast.modules()) == sum(
            isinstance(one, nn.Dropout) for one in stock.modules()
        )
        draws = [gradients(fast, seed) for seed in (1, 1, 2)]
    finally:
        torch.use_deterministic_algorithms(False)
    for first, second in zip(draws[0], draws[1], strict=True):
        assert torch.equal(first, second)
    assert not all(torch.equal(*two) for two in zip(draws[0], draws[2], strict=True))
    fast.eval()
    close(stock_hidden_states(fast, *batch()), stock_hidden_states(fast, *batch()))


def gradients(network, seed):
    network.zero_grad()
    torch.manual_seed(seed)
    with torch.autocast("cpu", torch.bfloat16):
        stock_hidden_states(network, *batch()).float().square().sum().backward()
    return [one.grad for one in network.parameters() if one.grad is not None]


@pytest.mark.parametrize("heads", [4, 1], ids=["by torch", "by the kernel"])
def test_gradient_checkpointing_repeats_the_dropout(heads):
    _, plain = networks("bert", num_attention_heads=heads)
    checkpointed = copy.deepcopy(plain)
    checkpointed.activation_checkpointing_enable({"use_reentrant": False})
    for mine, wanted in zip(gradients(checkpointed, 1), gradients(plain, 1), strict=True):
        assert torch.equal(mine, wanted)


@pytest.mark.parametrize("heads", [4, 1], ids=["by torch", "by the kernel"])
@pytest.mark.parametrize("model_type", TYPES)
def test_bfloat16_is_as_near_to_fp32_as_that_of_transformers(model_type, heads, monkeypatch):
    """The kernel takes heads of 32; in ModernBERT's second layer a window hides keys from it."""
    calls = []
    run = native_attention.run
    monkeypatch.setattr(
        native_attention, "run", lambda *given: (calls.append(given[0]), run(*given))
    )
    own = "n_heads" if model_type == "distilbert" else "num_attention_heads"
    stock, fast = networks(model_type, **NO_DROPOUT, **{own: heads})
    input_ids, attention_mask = batch()
    factors = torch.randn(*input_ids.shape, 32) * attention_mask[..., None]

    def states_and_gradients(network, *, is_ours, is_exact=False):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not is_exact):
            if is_ours:
                states = stock_hidden_states(network, input_ids, attention_mask)
            else:
                mask = attention_mask.long()
                states = network(input_ids=input_ids, attention_mask=mask).last_hidden_state
        (states.float() * factors).sum().backward()
        grads = [one.grad.flatten() for one in network.parameters() if one.grad is not None]
        return states.dtype, states[attention_mask].float().detach(), torch.cat(grads)

    _, *exact = states_and_gradients(stock, is_ours=False, is_exact=True)
    _, *theirs = states_and_gradients(stock, is_ours=False)
    dtype, *ours = states_and_gradients(fast, is_ours=True)
    for mine, other, wanted in zip(ours, theirs, exact, strict=True):
        assert (mine - wanted).norm() < 1.5 * (other - wanted).norm()
    assert dtype == (torch.float32 if model_type == "modernbert" else torch.bfloat16)
    by_kernel = {"mpnet": 0, "modernbert": 1}.get(model_type, 2)
    each_way = by_kernel if heads == 1 and native_library.library() is not None else 0
    assert calls == ["attention_forward"] * each_way + ["attention_backward"] * each_way


def test_other_networks_keep_their_attention():
    _, decoder = networks("bert", is_decoder=True)
    assert decoder.config._attn_implementation == "sdpa"
    assert isinstance(decoder.embeddings.dropout, Dropout)
