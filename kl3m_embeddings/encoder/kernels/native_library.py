"""The kernels of `native/`: compiled once for this processor, called through ctypes.

They need Linux, a processor with AVX-512's bfloat16 products and a C++ compiler (`CXX`, c++, g++ or
clang++); elsewhere, and with KL3M_NATIVE=0, `library()` is None and torch's own operations do the
work. `problem()` says why, where they should be there. The compiled file lies in $KL3M_CACHE, else
~/.cache/kl3m_embeddings, under a name made of what went into it.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

SOURCES = Path(__file__).parent / "native"
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")
COMPILE_TIMEOUT_S = 120


def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be had."""
    return _load()[0]


def problem() -> str | None:
    """Why there are no kernels, where the processor could run them; None if all is well."""
    return _load()[1]


@lru_cache(maxsize=1)
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    if os.environ.get("KL3M_NATIVE") == "0" or "avx512_bf16" not in processor():
        return None, None
    try:
        loaded = ctypes.CDLL(str(compiled()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return None, f"the kernels for this processor cannot be compiled: {lines[0]}"
    for name, arguments in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    return loaded, None


def serves(states: Tensor) -> bool:
    """Whether the kernels are there and `states` are theirs: bfloat16, on the CPU, not traced."""
    return (
        states.is_cpu
        and states.dtype == torch.bfloat16
        and not torch.compiler.is_compiling()
        and library() is not None
    )


@lru_cache(maxsize=1)
def processor() -> str:
    """Model and flags of the first processor; empty where Linux does not tell."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n", 1)[0].splitlines() if path.exists() else []
    return "\n".join(line for line in lines if line.startswith(("model", "flags", "vendor")))


def compiled() -> Path:
    """The shared library, compiled now if it is not there yet.

    Raises:
        OSError: there is no compiler, or no place to write.
        subprocess.SubprocessError: it failed.
    """
    compiler = find_compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    files = sorted(SOURCES.glob("*.cpp"))
    content = [path.read_text() for path in sorted(SOURCES.iterdir()) if path.is_file()]
    # -march=native: a home folder may be shared by machines whose processors differ.
    parts = [*content, *FLAGS, version.stdout, processor()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = cache_folder() / f"kernels-{key}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        subprocess.run(
            [compiler, *FLAGS, *map(str, files), "-o", str(made)],
            capture_output=True,
            text=True,
            check=True,
            timeout=COMPILE_TIMEOUT_S,
        )
        made.replace(target)  # at once: other processes may be doing the same
    return target


def find_compiler() -> str:
    """The C++ compiler's path.

    Raises:
        OSError: there is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    for name in names:
        if path := shutil.which(name):
            return path
    raise OSError(f"no C++ compiler ({', '.join(names)}): install one")


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    if cache := os.environ.get("KL3M_CACHE"):
        return Path(cache) / "kernels"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kl3m_embeddings"


def run(kernel: str, *arguments: Tensor | float | int | None) -> None:
    """Call a kernel, which takes the address of each tensor's first element.

    A kernel does not see what is at an address: floating-point tensors that are bfloat16 for it
    and those that are float32 are told apart by its signature's author and the tests alone.

    Raises:
        ValueError: a tensor is not contiguous, or not on the CPU.
    """
    kernels = library()
    assert kernels is not None
    values = []
    for argument in arguments:
        if isinstance(argument, Tensor) and not (argument.is_contiguous() and argument.is_cpu):
            raise ValueError(f"{kernel}: {tuple(argument.shape)}: not contiguous on the CPU")
        values.append(argument.data_ptr() if isinstance(argument, Tensor) else argument)
    getattr(kernels, kernel)(*values)


# P: a pointer, NULL for None.
P, INT, LONG, FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
SIGNATURES = {
    "attention_forward": [P] * 10 + [LONG] + [INT] * 4 + [FLOAT, FLOAT, INT],
    "attention_backward": [P] * 14 + [LONG] + [INT] * 4 + [FLOAT, FLOAT],
    "add_norm_forward": [P] * 9 + [LONG, INT, FLOAT, FLOAT, INT],
    "add_norm_backward": [P] * 11 + [LONG, INT, FLOAT, INT],
    "gelu_forward": [P] * 3 + [LONG, INT],
    "gelu_backward": [P] * 4 + [LONG, INT],
    "cross_entropy": [P] * 5 + [LONG, LONG],
}
