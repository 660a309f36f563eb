import re

import pytest
import torch

from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.kernels import native_library
from tests.encoder.kernels.kernel_inputs import needs_kernels
from tests.encoder.tiny import tiny_batch, tiny_config


@pytest.fixture
def library_anew():
    """`library()` as a new process finds it."""
    native_library._load.cache_clear()
    yield native_library.library
    native_library._load.cache_clear()


def test_without_the_kernels_torch_does_the_work(library_anew, monkeypatch):
    monkeypatch.setenv("KL3M_NATIVE", "0")
    assert library_anew() is None
    assert native_library.problem() is None
    encoder = build_encoder(tiny_config(), seed=0).eval()
    with torch.autocast("cpu", torch.bfloat16):
        plain = encoder.hidden_states(*tiny_batch())
    assert plain.dtype == torch.float32  # of the residual stream


@pytest.mark.parametrize(
    ("compiler", "said"), [("/no/compiler", "no C[+][+] compiler"), ("false", "returned non-zero")]
)
def test_a_compiler_that_is_missing_or_fails_is_told(
    library_anew, monkeypatch, tmp_path, compiler, said
):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path))
    monkeypatch.setattr(native_library, "processor", lambda: "flags: avx512_bf16")
    assert library_anew() is None
    assert re.search(f"cannot be compiled: .*{said}", native_library.problem())


@needs_kernels
def test_compiled_once(library_anew, monkeypatch, tmp_path):
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path))
    assert library_anew() is not None
    (made,) = (tmp_path / "kernels").iterdir()
    before = made.stat().st_mtime_ns
    native_library._load.cache_clear()
    assert library_anew() is not None
    assert [made] == list((tmp_path / "kernels").iterdir())
    assert made.stat().st_mtime_ns == before
