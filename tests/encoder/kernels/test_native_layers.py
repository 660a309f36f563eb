"""The kernels for the CPU against float32, and what happens where they cannot be had."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForMaskedLM

from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.kernels.dropout import is_dropped, mixed
from kl3m_embeddings.encoder.kernels.masked_loss import linear_cross_entropy
from kl3m_embeddings.encoder.kernels.native_layers import feed_forward, project_add_norm
from tests.encoder.kernels.kernel_inputs import (
    BFLOAT16_ERROR,
    attend,
    attention_inputs,
    needs_kernels,
    relative_error,
)
from tests.encoder.tiny import tiny_batch, tiny_config


def layer_parts(size=48, inner=80):
    torch.manual_seed(1)
    dense, outer, norm = nn.Linear(size, inner), nn.Linear(inner, size), nn.LayerNorm(size)
    with torch.no_grad():
        norm.weight.normal_(1, 0.2)
        norm.bias.normal_(0, 0.2)
    states = torch.randn(3, 50, size).bfloat16()
    context = torch.randn(3, 50, inner).bfloat16()
    return dense, outer, norm, states, context


@needs_kernels
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_half_layers_and_their_gradients_are_float32s_rounded(dropout):
    """Under the masks of torch's operations."""
    dense, outer, norm, states, context = layer_parts()
    drawn = mixed(torch.arange(150).int())
    kept = ~is_dropped(drawn, 48, dropout).view(3, 50, 48)
    assert kept.float().mean().item() == pytest.approx(1 - dropout, abs=0.02)

    def ours(states, context):
        rest = (dropout, drawn) if dropout else ()
        first = project_add_norm(context, states, outer, norm, *rest)
        return feed_forward(first, dense, outer, norm, *rest)

    def exact(states, context):
        def add_norm(projected, residual):
            return norm(projected * kept / (1 - dropout) + residual)

        first = add_norm(outer(context), states)
        return add_norm(outer(F.gelu(dense(first))), first)

    results = []
    for function, dtype in ((ours, torch.bfloat16), (exact, torch.float32)):
        inputs = [one.to(dtype, copy=True).requires_grad_() for one in (states, context)]
        output = function(*inputs)
        torch.manual_seed(2)
        output.backward(torch.randn(output.shape).to(dtype))
        parameters = [*dense.parameters(), *outer.parameters(), *norm.parameters()]
        results.append([output, *(one.grad for one in [*inputs, *parameters])])
        for one in parameters:
            one.grad = None
    for mine, wanted in zip(*results, strict=True):
        assert relative_error(mine, wanted) < 2 * BFLOAT16_ERROR


@needs_kernels
def test_cross_entropy_is_float32s_of_the_same_logits():
    torch.manual_seed(0)
    states, weight = torch.randn(70, 32).bfloat16(), torch.randn(4096, 32).bfloat16()
    bias, labels = torch.randn(4096), torch.randint(4096, (70,))
    labels[::7] = -100
    logits = (states @ weight.t()).float().add(bias).requires_grad_()
    labels[1] = logits[1].argmax()
    wanted = F.cross_entropy(logits, labels, reduction="none")
    leaves = [one.clone().requires_grad_() for one in (states, weight, bias)]
    losses, correct = linear_cross_entropy(*leaves, labels)
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(correct, logits.argmax(-1) == labels)
    grads = torch.autograd.grad(losses.mean(), leaves)
    by_logit = torch.autograd.grad(wanted.mean(), logits)[0]
    products = by_logit @ weight.float(), by_logit.t() @ states.float(), by_logit.sum(0)
    for grad, exact in zip(grads, products, strict=True):
        assert relative_error(grad, exact) < BFLOAT16_ERROR


@needs_kernels
@pytest.mark.parametrize("changes", [{}, {"conv_kernel_size": 3}, {"share_att_key": False}])
def test_gradients_are_no_farther_from_float32_than_transformers_own(changes):
    """Both under bfloat16 autocast; the distance is to transformers' float32."""
    config = tiny_config(
        hidden_size=64, intermediate_size=128, num_attention_heads=2, vocab_size=64, **changes
    )
    encoder = build_encoder(config, seed=0).eval()
    theirs = AutoModelForMaskedLM.from_config(config).eval()
    theirs.load_state_dict(encoder.network.state_dict())
    input_ids, attention_mask = tiny_batch()
    positions = attention_mask.flatten().nonzero()[:, 0]
    labels = torch.where(attention_mask, input_ids, -100)

    def of_transformers():
        return theirs(input_ids, attention_mask=attention_mask.long(), labels=labels).loss

    def of_ours():
        states = encoder.hidden_states(input_ids, attention_mask, positions=positions)
        return encoder.masked_lm_loss(states, input_ids.flatten()[positions])[0].mean()

    def gradients(loss, module, dtype=torch.bfloat16):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            loss().backward()
        return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}

    exact = gradients(of_transformers, theirs, torch.float32)
    rough, ours = gradients(of_transformers, theirs), gradients(of_ours, encoder.network)
    errors = [
        math.sqrt(sum((grads[name] - exact[name]).square().sum().item() for name in exact))
        for grads in (ours, rough)
    ]
    assert errors[0] < 1.3 * errors[1]


@needs_kernels
def test_results_do_not_depend_on_the_number_of_threads():
    inputs, mask = attention_inputs(20, 50, 2, 32), torch.ones(20, 50, dtype=torch.bool)
    dense, outer, norm, states, _ = layer_parts()
    results = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        torch.manual_seed(0)
        output, leaves = attend(inputs, mask, dropout=0.1)
        result = [output, *torch.autograd.grad(output.float().square().sum(), leaves)]
        drawn = mixed(torch.arange(150).int())
        transformed = feed_forward(states, dense, outer, norm, 0.1, drawn)
        result += [transformed, *torch.autograd.grad(transformed.float().sum(), [norm.weight])]
        results.append(result)
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@needs_kernels
def test_a_residual_stream_of_float32_is_left_to_torch():
    """As under torch.compile with checkpoints: only what a checkpoint computes runs uncompiled."""
    config = tiny_config(hidden_size=64, intermediate_size=64, num_attention_heads=2)
    layer = build_encoder(config, seed=0).network.deberta.encoder.layer[0].attention["output"]
    states, residual = torch.randn(2, 5, 64), torch.randn(2, 5, 64)
    exact = layer.eval()(states, residual)
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(states.bfloat16(), residual)
    assert rough.dtype == torch.float32
    assert relative_error(rough, exact) < BFLOAT16_ERROR


@needs_kernels
def test_no_targets_and_wrong_labels():
    config = tiny_config(hidden_size=64, intermediate_size=64, num_attention_heads=2, vocab_size=64)
    encoder = build_encoder(config, seed=0)
    none = torch.empty(0, dtype=torch.long)
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder.hidden_states(*tiny_batch(), positions=none)
        encoder.masked_lm_loss(states, none)[0].sum().backward()
        with pytest.raises(IndexError, match="label 64 of 64"):
            encoder.masked_lm_loss(torch.zeros(1, 64).bfloat16(), torch.tensor([64]))
