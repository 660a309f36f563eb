"""Named places where a test can kill the process: KL3M_FAULT=after_manifest:3 dies at the third."""

import os
import signal
from collections import Counter

_passed: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Die by SIGKILL here if the environment says so; otherwise do nothing."""
    wanted, _, count = os.environ.get("KL3M_FAULT", "").partition(":")
    if wanted == name:
        _passed[name] += 1
        if _passed[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
