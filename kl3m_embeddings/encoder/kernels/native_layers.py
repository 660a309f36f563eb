"""The two halves of a post-norm layer on the CPU in bfloat16, by the kernels of `native/fused.cpp`.

    project_add_norm(x, residual)  LayerNorm(dropout(x W' + b) + residual)
    feed_forward(x)                LayerNorm(dropout(gelu(x U' + c) W' + b) + x)

Matrix products are torch's. Everything between two of them is one pass, forward and backward: on a
CPU the time of such passes is that of reading and writing memory. A dropout mask is not kept but
made again of its rows' bits (`dropout.py`). The residual stream is bfloat16, sums and the gradients
of weights are float32. `native/fused.cpp` has the formulas of the gradients.

Dimensions: N rows (tokens), h hidden size, i intermediate size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kl3m_embeddings.encoder.kernels.dropout import drop_below, kept_scale
from kl3m_embeddings.encoder.kernels.native_library import run, serves

Context = Any  # torch's annotation of it knows one saved tensor only
SIZE_MULTIPLE = 16


def is_native(states: Tensor, dense: nn.Linear) -> bool:
    """Whether the kernels serve these states and this projection of float32 weights."""
    sizes = dense.in_features, dense.out_features
    return (
        serves(states)
        and dense.weight.dtype == torch.float32
        and all(size % SIZE_MULTIPLE == 0 for size in sizes)
    )


def project_add_norm(
    states: Float[Tensor, "*rows input"],
    residual: Float[Tensor, "*rows hidden"],
    dense: nn.Linear,
    norm: nn.LayerNorm,
    dropout: float = 0.0,
    drawn: Int[Tensor, " num_rows"] | None = None,
) -> Float[Tensor, "*rows hidden"]:
    """LayerNorm(dropout(states W' + b) + residual), W and b those of `dense`.

    `drawn` are the bits of each row from which its dropped columns follow (`dropout.row_bits`).
    """
    weights = dense.weight, dense.bias, norm.weight, norm.bias
    normalised: Tensor = ProjectAddNorm.apply(states, residual, *weights, norm.eps, dropout, drawn)
    return normalised


def feed_forward(
    states: Float[Tensor, "*rows hidden"],
    inner: nn.Linear,
    outer: nn.Linear,
    norm: nn.LayerNorm,
    dropout: float = 0.0,
    drawn: Int[Tensor, " num_rows"] | None = None,
) -> Float[Tensor, "*rows hidden"]:
    """LayerNorm(dropout(gelu(states U' + c) W' + b) + states); U, c of `inner`, W, b of `outer`."""
    weights = inner.weight, inner.bias, outer.weight, outer.bias, norm.weight, norm.bias
    transformed: Tensor = FeedForward.apply(states, *weights, norm.eps, dropout, drawn)
    return transformed


class ProjectAddNorm(torch.autograd.Function):
    """The gradients of `project_add_norm`: what is kept, and what is computed again."""

    @staticmethod
    def forward(
        ctx: Context,
        states: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        epsilon: float,
        dropout: float,
        drawn: Tensor | None,
    ) -> Tensor:
        """One product, one pass."""
        rows, weight = states.flatten(0, -2), weight.bfloat16()  # Nx(h or i), hx(h or i)
        add_norm = AddNorm.begun((rows @ weight.t(), bias, residual, norm_weight), dropout, drawn)
        output = add_norm.forward(norm_bias, epsilon)
        ctx.save_for_backward(rows, weight, *add_norm.saved())
        ctx.dropout = dropout
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """One pass, two products."""
        rows, weight, *saved = ctx.saved_tensors
        add_norm = AddNorm.restored(saved, ctx.dropout)
        grad, grad_residual, (grad_scale, grad_shift, grad_bias) = add_norm.backward(grad_output)
        grad_states = (grad @ weight).view(*grad_output.shape[:-1], weight.shape[1])
        grad_weight = (grad.t() @ rows).float()
        norm_grads = grad_scale, grad_shift
        return grad_states, grad_residual, grad_weight, grad_bias, *norm_grads, None, None, None


class FeedForward(torch.autograd.Function):
    """The gradients of `feed_forward`: what is kept, and what is computed again."""

    @staticmethod
    def forward(
        ctx: Context,
        states: Tensor,
        inner_weight: Tensor,
        inner_bias: Tensor,
        outer_weight: Tensor,
        outer_bias: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        epsilon: float,
        dropout: float,
        drawn: Tensor | None,
    ) -> Tensor:
        """Two products, a pass after each."""
        rows = states.flatten(0, -2)  # Nxh
        inner_weight, outer_weight = inner_weight.bfloat16(), outer_weight.bfloat16()
        inner = rows @ inner_weight.t()  # Nxi, without its bias: the kernel adds it
        activated = torch.empty_like(inner)
        run("gelu_forward", inner, inner_bias, activated, *inner.shape)
        add_norm = AddNorm.begun(
            (activated @ outer_weight.t(), outer_bias, states, norm_weight), dropout, drawn
        )
        output = add_norm.forward(norm_bias, epsilon)
        kept = inner, inner_bias, activated, inner_weight, outer_weight
        ctx.save_for_backward(*kept, *add_norm.saved())
        ctx.dropout = dropout
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Four products, two passes."""
        inner, inner_bias, activated, inner_weight, outer_weight, *saved = ctx.saved_tensors
        add_norm = AddNorm.restored(saved, ctx.dropout)
        # The states are both the input and the residual: their two gradients are added up below.
        grad, grad_states, (grad_scale, grad_shift, grad_bias) = add_norm.backward(grad_output)
        grad_outer = (grad.t() @ activated).float()
        grad_inner_states = grad @ outer_weight
        grad_inner_bias = torch.empty_like(inner_bias)
        # It overwrites the gradient of GELU's output with that of its input.
        run("gelu_backward", inner, inner_bias, grad_inner_states, grad_inner_bias, *inner.shape)
        rows = add_norm.residual.flatten(0, -2)
        grad_inner = (grad_inner_states.t() @ rows).float()
        grad_states.flatten(0, -2).addmm_(grad_inner_states, inner_weight)
        weight_grads = grad_inner, grad_inner_bias, grad_outer, grad_bias, grad_scale, grad_shift
        return grad_states, *weight_grads, None, None, None


@dataclass(frozen=True, kw_only=True)
class AddNorm:
    """LayerNorm(dropout(projected + bias) + residual) and its gradients; what both passes need."""

    inputs: tuple[Tensor, ...]
    """Projected, bias, residual, and the norm's weight."""
    moments: Tensor
    """2xN: mean and inverse deviation of each row; the forward pass fills it."""
    dropout: float
    drawn: Tensor | None
    """N: the bits of each row from which its dropped columns follow."""

    @classmethod
    def begun(cls, inputs: tuple[Tensor, ...], dropout: float, drawn: Tensor | None) -> "AddNorm":
        """For the forward pass."""
        projected, bias, residual, norm_weight = inputs
        return cls(
            inputs=(projected, bias, residual.contiguous(), norm_weight),
            moments=projected.new_empty(2, len(projected), dtype=torch.float32),
            dropout=dropout,
            drawn=drawn,
        )

    @classmethod
    def restored(cls, saved: list[Any], dropout: float) -> "AddNorm":
        """For the backward pass, from what `saved` gave."""
        *inputs, moments, drawn = saved
        return cls(inputs=tuple(inputs), moments=moments, dropout=dropout, drawn=drawn)

    def saved(self) -> tuple[Tensor | None, ...]:
        """The tensors that `restored` takes."""
        return *self.inputs, self.moments, self.drawn

    @property
    def of_dropout(self) -> tuple[float, int]:
        """What kept elements are multiplied by, and the bits below which they are dropped."""
        return kept_scale(self.dropout), drop_below(self.dropout)

    @property
    def projected(self) -> Tensor:
        """What is dropped out: Nxh."""
        return self.inputs[0]

    @property
    def residual(self) -> Tensor:
        """What is added to it: ...xh."""
        return self.inputs[2]

    def forward(self, norm_bias: Tensor, epsilon: float) -> Tensor:
        """The output, shaped like the residual."""
        output = torch.empty_like(self.residual)
        tensors = (*self.inputs, norm_bias, self.drawn, output, *self.moments)
        shape = self.projected.shape
        run("add_norm_forward", *tensors, *shape, epsilon, *self.of_dropout)
        return output

    def backward(self, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of `projected` and `residual`; of the norm's weight and bias, and of `bias`."""
        grad, grad_residual = torch.empty_like(self.projected), torch.empty_like(self.residual)
        totals = self.moments.new_empty(3, self.projected.shape[1])
        inputs = grad_output.contiguous(), *self.inputs, *self.moments, self.drawn
        shape = self.projected.shape
        results = grad, grad_residual, totals
        run("add_norm_backward", *inputs, *results, *shape, *self.of_dropout)
        return grad, grad_residual, totals
