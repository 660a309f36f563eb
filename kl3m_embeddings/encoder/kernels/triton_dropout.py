"""Dropout on CUDA: the masks of `dropout.py`, computed where they are applied.

torch's own kernel draws from a stream of numbers; the same hash in torch's operations would read
and write eight matrices.
"""
# ruff: noqa: ANN001, ANN201 (arguments are Triton's tensors, pointers and constants)

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from kl3m_embeddings.encoder.kernels.dropout import drop_below, kept_scale
from kl3m_embeddings.encoder.kernels.triton_tiles import dropout_factors

Context = Any  # torch's annotation of it knows one saved tensor only
BLOCK = 1024


def drop_out(
    states: Float[Tensor, "*shape"], rows: Int[Tensor, " rows"], p: float
) -> Float[Tensor, "*shape"]:
    """Dropout of states whose elements are those of `rows`, one row after another."""
    dropped: Tensor = DropOut.apply(states, rows.contiguous(), p)
    return dropped


class DropOut(torch.autograd.Function):
    """Linear: the gradient goes through the same kernel."""

    @staticmethod
    def forward(ctx: Context, states: Tensor, rows: Tensor, p: float) -> Tensor:
        """Multiply by the mask; kept for the backward pass is a number a row."""
        ctx.save_for_backward(rows)
        ctx.p = p
        return masked(states, rows, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the states."""
        (rows,) = ctx.saved_tensors
        return masked(grad_output, rows, ctx.p), None, None


def masked(states: Tensor, rows: Tensor, p: float) -> Tensor:
    """The states times their mask, which is 0 or the scale."""
    states = states.contiguous()
    output = torch.empty_like(states)
    num_columns = states.numel() // len(rows)
    grid = len(rows), triton.cdiv(num_columns, BLOCK)
    with torch.cuda.device_of(states):  # type: ignore[no-untyped-call]
        dropout_kernel[grid](
            states, rows, output, num_columns, kept_scale(p), DROP_BELOW=drop_below(p), BLOCK=BLOCK
        )
    return output


@triton.jit
@no_type_check
def dropout_kernel(
    states, rows, output, num_columns, kept_scale, DROP_BELOW: tl.constexpr, BLOCK: tl.constexpr
):
    """A block of one row's columns."""
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    bits = tl.load(rows + row).to(tl.uint32, bitcast=True)
    at = row.to(tl.int64) * num_columns + columns
    values = tl.load(states + at, mask=columns < num_columns, other=0.0)
    values *= dropout_factors(bits, columns, kept_scale, DROP_BELOW)
    tl.store(output + at, values.to(output.dtype.element_ty), mask=columns < num_columns)
