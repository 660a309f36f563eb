"""Ctrl-C, SIGTERM, SIGHUP: the first asks the loop to finish its step and save, the second exits.

SIGHUP is what a terminal that vanishes leaves behind. Under nohup it is ignored, and stays so.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopRequest:
    """Whether a signal has asked to stop."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it; 0 without a signal."""
        return 128 + self.signal_number if self.signal_number is not None else 0


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Handle the signals while inside."""
    request = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        if request:
            os._exit(128 + number)
        request.signal_number = number

    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = SIGNALS[:-1] if is_ignored else SIGNALS
    previous = {number: signal.signal(number, handle) for number in handled}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
