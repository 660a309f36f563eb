"""Cross-entropy against a large vocabulary that keeps one 16-bit TxV matrix.

    loss = log(sum over v of exp(logit[v])) - logit[label],  logits = states W' + b
    dlogit[v] = p[v] - (v == label),  p = softmax(logits)

Autograd would keep the logits, their fp32 copy and the log-probabilities. Here

1. the forward turns the logits, a few targets at a time, into fp32 probabilities, the loss, and, in
   place of the logits, the loss's gradient: it depends on nothing that the backward pass would know
   better, but for a factor;
2. the backward is two matrix products with that gradient. A target's own factor (its weight in the
   mean, zero for padding) scales its row, so it can be applied to the small sides of the products:
   diag(f) G W = diag(f) (G W), and G' diag(f) states = G' (diag(f) states).

Dimensions: T targets, V vocabulary, E embedding size (of the head's transform).

After Cut Your Losses (https://arxiv.org/abs/2411.09009) and Liger Kernel
(https://arxiv.org/abs/2410.10989).
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from kl3m_embeddings.encoder.kernels.native_library import run, serves
from kl3m_embeddings.encoder.kernels.precision import compute_dtype

Context = Any  # torch's annotation of it knows one saved tensor only

# fp32 probabilities of this many targets exist at a time: 16 MB with 65,536 rows, which a CPU's
# cache holds; elsewhere fewer, larger kernels are faster.
NUM_TARGETS_AT_ONCE = {"cpu": 64, "elsewhere": 2048}
COLUMN_MULTIPLE = 16  # of the vocabulary, for the kernel


class LinearCrossEntropy(torch.autograd.Function):
    """Per-target loss and correctness of `states @ weight.T + bias` against `labels`."""

    @staticmethod
    def forward(
        ctx: Context, states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return fp32 losses (0 where the label is -100) and whether the label scored highest."""
        is_target = labels >= 0
        native = serves(states) and len(weight) % COLUMN_MULTIPLE == 0
        compute = native_gradient if native else gradient
        loss, correct, grad_logits = compute(states, weight, bias, labels)
        ctx.save_for_backward(states, weight, grad_logits, is_target)
        ctx.bias_dtype = bias.dtype
        correct &= is_target
        ctx.mark_non_differentiable(correct)
        return loss * is_target, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_loss: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        """Two matrix products with the stored gradient."""
        states, weight, grad_logits, is_target = ctx.saved_tensors
        factor = (grad_loss * is_target)[:, None]  # Tx1
        grad_states = ((grad_logits @ weight) * factor).to(states.dtype)
        grad_weight = grad_logits.t() @ (states * factor).to(states.dtype)
        grad_bias = (grad_logits.t() @ factor.to(states.dtype))[:, 0].to(ctx.bias_dtype)
        return grad_states, grad_weight, grad_bias, None


def gradient(
    states: Float[Tensor, "targets embedding"],
    weight: Float[Tensor, "vocabulary embedding"],
    bias: Float[Tensor, " vocabulary"],
    labels: Int[Tensor, " targets"],
) -> tuple[
    Float[Tensor, " targets"], Bool[Tensor, " targets"], Float[Tensor, "targets vocabulary"]
]:
    """Losses, whether the label scored highest, and the gradient of the logits.

    Where the label is -100, the first two are those of label 0.
    """
    label_rows = labels.clamp(min=0)[:, None]  # Tx1, of the vocabulary
    logits = torch.addmm(bias.to(states.dtype), states, weight.t())  # TxV
    label_logits = logits.gather(1, label_rows)[:, 0]
    loss = states.new_empty(len(states), dtype=torch.float32)
    correct = torch.empty_like(labels, dtype=torch.bool)
    num_at_once = NUM_TARGETS_AT_ONCE["cpu" if states.is_cpu else "elsewhere"]
    for start in range(0, len(states), num_at_once):
        chunk = slice(start, start + num_at_once)
        highest = logits[chunk].amax(dim=-1)
        probabilities = torch.softmax(logits[chunk], dim=-1, dtype=torch.float32)
        # The highest logit's probability is 1 / sum(exp(logits - highest)).
        log_total = highest - probabilities.amax(dim=-1).log()
        loss[chunk] = log_total - label_logits[chunk]
        correct[chunk] = label_logits[chunk] == highest
        minus_one = probabilities.new_full(label_rows[chunk].shape, -1.0)
        logits[chunk] = probabilities.scatter_add_(1, label_rows[chunk], minus_one)
    return loss, correct, logits


def native_gradient(
    states: Float[Tensor, "targets embedding"],
    weight: Float[Tensor, "vocabulary embedding"],
    bias: Float[Tensor, " vocabulary"],
    labels: Int[Tensor, " targets"],
) -> tuple[
    Float[Tensor, " targets"], Bool[Tensor, " targets"], Float[Tensor, "targets vocabulary"]
]:
    """The same by a kernel, which adds the bias in float32."""
    # The kernel would read and write beyond its row.
    if len(labels) and int(labels.max()) >= len(weight):
        raise IndexError(f"label {int(labels.max())} of {len(weight)}")
    logits = states @ weight.t()
    loss = logits.new_empty(len(logits), dtype=torch.float32)
    correct = torch.empty_like(labels, dtype=torch.bool)
    inputs = bias.float().contiguous(), labels.long().contiguous()
    run("cross_entropy", logits, *inputs, loss, correct, *logits.shape)
    return loss, correct, logits


def linear_cross_entropy(
    states: Float[Tensor, "targets embedding"],
    weight: Float[Tensor, "vocabulary embedding"],
    bias: Float[Tensor, " vocabulary"],
    labels: Int[Tensor, " targets"],
) -> tuple[Float[Tensor, " targets"], Bool[Tensor, " targets"]]:
    """Cross-entropy of each target over all rows of `weight`; the products run in autocast's dtype.

    Returns:
        The losses in fp32, 0 where the label is -100, and whether the label had the highest logit.
    """
    dtype = compute_dtype(states)
    with torch.autocast(states.device.type, enabled=False):
        loss, correct = LinearCrossEntropy.apply(states.to(dtype), weight.to(dtype), bias, labels)
    return loss, correct
