"""Named places where a test can kill the process.

KL3M_FAULT=after_manifest:3 dies at the third; after_step:3@1 does so on rank 1 alone.
"""

import os
import signal
from collections import Counter

_passed: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Die by SIGKILL here if the environment says so; otherwise do nothing."""
    place, _, rank = os.environ.get("KL3M_FAULT", "").partition("@")
    wanted, _, count = place.partition(":")
    if wanted == name and rank in ("", os.environ.get("RANK", "0")):
        _passed[name] += 1
        if _passed[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
