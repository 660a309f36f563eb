"""Dropout on CUDA against torch's operations; without a GPU in Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton")

from kl3m_embeddings.encoder.kernels import triton_dropout
from kl3m_embeddings.encoder.kernels.dropout import is_dropped, mixed
from kl3m_embeddings.encoder.kernels.triton_dropout import drop_out

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 20), (6, 16)], ids=str)
def test_output_and_gradient_have_the_mask_of_torchs_operations(shape, dtype, p, monkeypatch):
    monkeypatch.setattr(triton_dropout, "BLOCK", 16)
    rows = mixed(torch.arange(len(shape) * 3 if len(shape) == 3 else shape[0]).int())
    rows = rows[: torch.Size(shape[:-1]).numel()].to(DEVICE)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_()
    factors = torch.randn(shape, generator=generator).to(DEVICE, dtype)
    kept = ~is_dropped(rows, shape[-1], p).view(shape)
    scale = 1 / (1 - p) if p < 1 else 0.0
    output = drop_out(states, rows, p)
    assert output.dtype == dtype
    torch.testing.assert_close(output, states * kept * scale)
    (output * factors).sum().backward()
    torch.testing.assert_close(states.grad, factors * kept * scale)
    assert kept.any() == (p < 1)
