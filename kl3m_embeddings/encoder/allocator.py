"""Lets a process on the CPU keep the memory that it frees.

glibc hands freed blocks of more than 32 MB back to the system, and a training step allocates the
same ones again: each time the system zeroes them page by page. Measured with
`kl3m bench`, that was about a sixth of a step's time.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def keep_freed_memory() -> None:
    """Serve large tensors from a heap that is not trimmed; no effect where there is no glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, 2**30)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
