import ctypes
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kl3m_embeddings.encoder import allocator
from kl3m_embeddings.encoder.allocator import (
    KeptMemory,
    glibc,
    keep_freed_memory,
    resident_bytes,
)
from tests.tiny_model import WORDS


def test_keeping_memory_leaves_tensors_as_they_are():
    keep_freed_memory()
    assert torch.ones(20_000_000).sum().item() == 20_000_000


def test_where_there_is_no_glibc_nothing_is_called(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("no library is opened"))
    keep_freed_memory()
    KeptMemory().after_step()


def test_both_thresholds_are_set_in_glibc(monkeypatch):
    """Numbers of <malloc.h>: M_MMAP_THRESHOLD is -3, M_TRIM_THRESHOLD -1."""
    calls = {}
    library = SimpleNamespace(mallopt=calls.__setitem__)
    monkeypatch.setattr(allocator, "glibc", lambda: library)
    keep_freed_memory()
    assert calls == {-3: 2**30, -1: 2**31 - 1}


def test_memory_is_trimmed_when_it_has_grown_beyond_what_a_step_needs(monkeypatch):
    """Each time what a step needs is measured after it, so that a larger one is not trimmed for."""
    steps, trimmed = [], []
    library = SimpleNamespace(malloc_trim=lambda _: trimmed.append(len(steps)))
    monkeypatch.setattr(allocator, "glibc", lambda: library)
    monkeypatch.setattr(allocator, "resident_bytes", lambda: steps[-1])
    memory = KeptMemory()
    for resident in (100, 102, 105, 106, 120, 123, 126, 127, 90, 125, 127):
        steps.append(resident)
        memory.after_step()
    assert trimmed == [4, 8, 11]
    assert memory.needed == 120


@pytest.mark.skipif(glibc() is None, reason="needs glibc")
def test_trimming_hands_holes_back():
    """Blocks of a heap that is not trimmed by itself, with others between them that stay."""
    keep_freed_memory()
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    memory = KeptMemory(needed=1, measures=False)
    blocks = []
    for size in (2**24, 64) * 12:
        blocks.append(library.malloc(size))
        ctypes.memset(blocks[-1], 1, size)
    for block in blocks[::2]:
        library.free(block)
    before = resident_bytes()
    memory.after_step()
    assert memory.measures
    assert before - resident_bytes() > 100 * 2**20
    for block in blocks[1::2]:
        library.free(block)


BERT = {
    "model_type": "bert",
    "hidden_size": 128,
    "intermediate_size": 512,
    "max_position_embeddings": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "pad_token_id": 0,
    "vocab_size": 320,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(glibc() is None, reason="needs glibc")
def test_memory_of_steps_of_many_shapes_is_flat(make_model_folder, tmp_path):
    """Over 300 steps of rows of 3 to 100 words, in a process of its own: its largest size."""
    generator = np.random.default_rng(0)

    def text(longest):
        return " ".join(generator.choice(WORDS, int(generator.integers(3, longest))))

    rows = [{"query": text(30), "positive": text(100)} for _ in range(4000)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = make_model_folder(
        tasks={"pairs": 1.0}, pairs={"made": {"path": str(pairs)}}, eval={}, data={},
        max_length=96, batch_size=24, num_eval_samples=0, steps_per_save=1000,
        steps_per_eval=1000, optimizer={"total_steps": 300, "warmup_steps": 4},
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(BERT))
    command = [sys.executable, "train_single.py", str(folder), "--quiet"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    log = (folder / "log.jsonl").read_text().splitlines()
    largest = [json.loads(line)["device_mb"] for line in log]
    assert len(largest) == 300
    assert largest[-1] < 1.15 * largest[0]
    assert largest[-1] < 1.05 * largest[49]
