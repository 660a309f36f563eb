"""What a run ran on: recorded at each start, and measured where numbers depend on it."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from kl3m_embeddings.encoder.kernels.native_library import library, problem
from kl3m_embeddings.encoder.kernels.precision import default_precision
from kl3m_embeddings.errors import ConfigError, first_line
from kl3m_embeddings.messages import warn

PACKAGES = ("kl3m-embeddings", "torch", "transformers", "tokenizers", "numpy", "deepspeed")
LARGEST_MATRIX = {"cuda": 8192, "mps": 4096, "cpu": 1024}
SMALLEST_MATRIX = 128
PRODUCT_S = 0.005
"""A matrix product need not take longer to be timed."""


def pick_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The named device, or the best there is: this rank's CUDA device, MPS, CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if name:
        return named_device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank if torch.cuda.device_count() > 1 else 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def named_device(name: str) -> torch.device:
    """The device, tried by putting a number on it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"--device {name}: {first_line(error)}: name a device that there is (cpu, cuda, "
            "cuda:1, mps), or leave the option out"
        ) from error
    return device


def choose_precision(precision: str, device: torch.device) -> str:
    """The precision of a run; for `auto` the one that the device computes fast in.

    What makes it slow is told.
    """
    fast = default_precision(device)
    if precision == "auto":
        precision = fast
    if device.type == "cpu" and precision != "float32":
        if fast == "float32":
            warn(
                f"precision {precision}: this processor cannot multiply in it, and takes many "
                "times as long as in float32: set precision to auto or float32"
            )
        elif precision == "bfloat16" and (reason := problem()):
            warn(f"{reason}: training is slower; install a C++ compiler")
    return precision


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Device, processor, memory and threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "device": str(device),
        "device_name": name,
        "processor": processor_name(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": platform.platform(),
    }


def describe_kernels(device: torch.device, precision: str) -> str:
    """Which code computes attention: what runs elsewhere differs in the last digits."""
    if device.type == "cpu":
        return "native" if precision == "bfloat16" and library() else "torch"
    fused = device.type == "cuda" and precision != "float32" and find_spec("triton")
    return "triton" if fused else "torch"


def describe_versions() -> dict[str, str]:
    """Python and the packages that numbers may depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def processor_name() -> str:
    """The processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def measure_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large square matrix product: what `mfu` is out of.

    As large as can be timed at once: a processor without products in bfloat16 would be at it for
    half a minute, where the sizes that are smaller show the same rate.
    """
    generator = torch.Generator().manual_seed(0)
    size = SMALLEST_MATRIX
    while True:
        shape = (2, size, size)
        left, right = torch.randn(shape, generator=generator).to(device, dtype)
        seconds = [time_product(left, right) for _ in range(2)][1]  # the first one warms up
        if size >= LARGEST_MATRIX[device.type] or seconds > PRODUCT_S:
            break
        size *= 2
    seconds = median(time_product(left, right) for _ in range(4))
    return 2.0 * size**3 / seconds  # a multiplication and an addition each


def time_product(left: Tensor, right: Tensor) -> float:
    """Seconds of one matrix product."""
    wait(left.device)
    start = time.perf_counter()
    torch.mm(left, right)
    wait(left.device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Block until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
