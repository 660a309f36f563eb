"""What is said to the person at the terminal."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def say(message: str) -> None:
    """Tell the person at the terminal; of several ranks only the first does."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)


def warn(message: str) -> None:
    """Tell the person at the terminal; the run goes on."""
    say(f"warning: {message}")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar and no load report while inside: what matters becomes an error."""
    from transformers.utils import logging as transformers_logging

    verbosity, bar = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
