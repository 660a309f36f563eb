"""What the tests of the kernels for the CPU share."""

import pytest
import torch

from kl3m_embeddings.encoder.kernels import native_library
from kl3m_embeddings.encoder.kernels.dropout import site_keys
from kl3m_embeddings.encoder.kernels.native_attention import AttentionNative
from kl3m_embeddings.encoder.kernels.sequences import Sequences

needs_kernels = pytest.mark.skipif(
    native_library.library() is None, reason="needs AVX-512's bfloat16 and a C++ compiler"
)
BFLOAT16_ERROR = 0.01  # of a whole tensor; each number is rounded by up to 0.4%


def relative_error(ours, exact):
    return ((ours.float() - exact).norm() / exact.norm()).item()


def attention_inputs(batch, length, heads, size):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator).bfloat16()

    states = [normal(batch, length, heads, size) for _ in range(3)]
    return [*states, *(normal(heads, 2 * length - 1, size) for _ in range(2))]


def attend(inputs, mask, dropout=0.0):
    leaves = [None if one is None else one.clone().requires_grad_() for one in inputs]
    keys = site_keys(inputs[0]) if dropout else None
    output = AttentionNative.apply(*leaves, Sequences.of(mask), 0.1, dropout, keys)
    return output, leaves
