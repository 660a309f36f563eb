import os
import platform
from importlib.metadata import version

import pytest
import torch

from kl3m_embeddings.encoder import hardware
from kl3m_embeddings.encoder.hardware import (
    choose_precision,
    describe_hardware,
    describe_kernels,
    describe_versions,
    measure_peak_flops,
    pick_device,
)
from kl3m_embeddings.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("num_cuda", "has_mps", "local_rank", "expected"),
    [
        (0, False, 0, "cpu"),
        (0, True, 0, "mps"),
        (1, True, 0, "cuda:0"),
        (1, False, 3, "cuda:0"),  # its launcher shows each rank its own device only
        (4, False, 3, "cuda:3"),
    ],
)
def test_the_best_device_there_is(monkeypatch, num_cuda, has_mps, local_rank, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert pick_device(None, local_rank) == torch.device(expected)


def test_a_named_device_is_tried():
    assert pick_device("cpu") == CPU
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(ConfigError, match=f"--device {name}: .*: name a device that there is"):
            pick_device(name)


def test_what_is_described_is_what_the_system_says():
    found = describe_hardware(CPU)
    assert found["device"] == "cpu"
    assert found["num_cpus"] == os.cpu_count()
    assert found["num_threads"] == torch.get_num_threads()
    assert found["device_name"] == found["processor"] != ""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found["memory_gb"] == pytest.approx(pages / 2**30, abs=0.06)


def test_versions_are_those_installed(monkeypatch):
    monkeypatch.setattr(hardware, "PACKAGES", ("torch", "no-such-package"))
    assert describe_versions() == {
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def test_attention_is_computed_by_the_kernels_of_its_device(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(hardware, "find_spec", lambda _: object())
    monkeypatch.setattr(hardware, "library", lambda: object())
    assert describe_kernels(CPU, "bfloat16") == "native"
    assert describe_kernels(CPU, "float32") == "torch"
    assert describe_kernels(cuda, "bfloat16") == describe_kernels(cuda, "float16") == "triton"
    assert describe_kernels(cuda, "float32") == "torch"
    monkeypatch.setattr(hardware, "find_spec", lambda _: None)
    monkeypatch.setattr(hardware, "library", lambda: None)
    assert describe_kernels(CPU, "bfloat16") == describe_kernels(cuda, "bfloat16") == "torch"


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ([9, 0.004, 9, 0.004, 1, 2, 3, 9], 256),  # the largest that there is
        ([9, 0.004, 9, 0.006, 1, 2, 3, 9], 256),
        ([9, 0.006, 1, 2, 3, 9], 128),  # long enough to be timed
    ],
)
def test_a_product_of_n_has_two_n_cubed_operations(monkeypatch, seconds, size):
    """Of each size the first warms up; then the median of four is taken."""
    left = iter(seconds)
    sizes = []

    def time_product(one, other):
        sizes.append(one.shape)
        assert one.shape == other.shape
        return next(left)

    monkeypatch.setattr(hardware, "time_product", time_product)
    monkeypatch.setitem(hardware.LARGEST_MATRIX, "cpu", 256)
    assert measure_peak_flops(CPU, torch.float32) == 2 * size**3 / 2.5
    assert sizes[-1] == (size, size)
    assert not list(left)


@pytest.mark.parametrize(
    ("asked", "fast", "chosen", "told"),
    [
        ("auto", "bfloat16", "bfloat16", ""),
        ("auto", "float32", "float32", ""),
        ("float32", "bfloat16", "float32", ""),
        ("bfloat16", "bfloat16", "bfloat16", ""),
        ("bfloat16", "float32", "bfloat16", "precision bfloat16: this processor cannot"),
        ("float16", "float32", "float16", "precision float16: this processor cannot"),
    ],
)
def test_the_precision_of_a_run(monkeypatch, capsys, asked, fast, chosen, told):
    monkeypatch.setattr(hardware, "default_precision", lambda _: fast)
    monkeypatch.setattr(hardware, "problem", lambda: None)
    assert choose_precision(asked, CPU) == chosen
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {told}") if told else not said


def test_a_missing_compiler_is_told_where_kernels_would_be_used(monkeypatch, capsys):
    monkeypatch.setattr(hardware, "default_precision", lambda _: "bfloat16")
    monkeypatch.setattr(hardware, "problem", lambda: "no C++ compiler")
    choose_precision("float32", CPU)
    assert not capsys.readouterr().err
    assert choose_precision("auto", CPU) == "bfloat16"
    assert "no C++ compiler: training is slower" in capsys.readouterr().err
