import pytest
import torch

from kl3m_embeddings.encoder.kernels import precision
from kl3m_embeddings.encoder.kernels.precision import (
    compute_dtype,
    cpu_has_bfloat16,
    default_precision,
)


@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_it_is_the_dtype_of_torchs_own_products(own, autocast):
    states = torch.ones(2, 2, dtype=own)
    assert compute_dtype(states) == own
    with torch.autocast("cpu", autocast):
        assert compute_dtype(states) == autocast
        assert own == torch.float64 or (states @ states).dtype == autocast
        with torch.autocast("cpu", enabled=False):
            assert compute_dtype(states) == own


@pytest.mark.parametrize("is_fast", [True, False])
def test_bfloat16_is_chosen_where_it_is_fast(monkeypatch, is_fast):
    expected = "bfloat16" if is_fast else "float32"
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: is_fast)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: is_fast)
    assert default_precision(torch.device("cpu")) == expected
    assert default_precision(torch.device("cuda")) == expected
    assert default_precision(torch.device("mps")) == "float32"


def test_torch_is_asked_what_the_processor_has():
    assert cpu_has_bfloat16() == torch.ops.mkldnn._is_mkldnn_bf16_supported()
