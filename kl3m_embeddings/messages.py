"""What is said to the person at the terminal."""

import os
import sys


def say(message: str) -> None:
    """Tell the person at the terminal; of several ranks only the first does."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr)


def warn(message: str) -> None:
    """Tell the person at the terminal; the run goes on."""
    say(f"warning: {message}")
