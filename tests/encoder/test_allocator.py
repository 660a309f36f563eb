from types import SimpleNamespace

import pytest
import torch

from kl3m_embeddings.encoder import allocator
from kl3m_embeddings.encoder.allocator import keep_freed_memory


def test_keeping_memory_leaves_tensors_as_they_are():
    keep_freed_memory()
    assert torch.ones(20_000_000).sum().item() == 20_000_000


def test_where_there_is_no_glibc_nothing_is_called(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("no library is opened"))
    keep_freed_memory()


def test_both_thresholds_are_set_in_glibc(monkeypatch):
    """Numbers of <malloc.h>: M_MMAP_THRESHOLD is -3, M_TRIM_THRESHOLD -1."""
    calls = {}
    library = SimpleNamespace(gnu_get_libc_version=None, mallopt=calls.__setitem__)
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: library)
    keep_freed_memory()
    assert calls == {-3: 2**30, -1: 2**31 - 1}
