"""Lets a process on the CPU keep the memory that it frees, as far as steps need it.

glibc hands freed blocks of more than 32 MB back to the system, and a training step allocates the
same ones again: each time the system zeroes them page by page. Measured with
`kl3m bench`, that was about a sixth of a step's time.

A heap that is never trimmed grows where steps differ in their shapes: small blocks that stay lie
between large ones that were freed, and what is a little larger than a hole takes new memory. So the
holes are handed back when they have grown (`KeptMemory`): once in some tens of steps.
"""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
STATM = Path("/proc/self/statm")
ROOM = 1.05
"""Memory may grow to so many times what a step needs before it is trimmed."""


def keep_freed_memory() -> None:
    """Serve large tensors from a heap that is not trimmed; no effect where there is no glibc."""
    if (library := glibc()) is not None:
        library.mallopt(M_MMAP_THRESHOLD, 2**30)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def glibc() -> ctypes.CDLL | None:
    """The C library, if it is that one."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


@dataclass
class KeptMemory:
    """Trims the heap after steps that leave it larger than the largest step needs."""

    needed: int = 0
    """Bytes of the process after its first step, or the largest that followed a trimming."""
    measures: bool = True
    """Whether nothing but the last step has taken memory."""

    def after_step(self) -> None:
        """Hand freed memory back, if it has grown; no effect where there is no glibc."""
        if (library := glibc()) is None:
            return
        resident = resident_bytes()
        if self.measures:
            self.needed, self.measures = max(self.needed, resident), False
        elif resident > ROOM * self.needed:
            library.malloc_trim(0)
            self.measures = True


def resident_bytes() -> int:
    """Memory of this process that is in use, by Linux's own count."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
