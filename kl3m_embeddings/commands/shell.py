"""Runs a command: turns its errors into one line on standard error and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper

from kl3m_embeddings.commands.terminal import final_code, keep_going
from kl3m_embeddings.errors import INTERNAL_ERROR, INTERRUPTED, OtherRankError, explained


def run(command: Callable[[], int], *, debug: bool = False) -> int:
    """Call `command` and return its exit code, which is 0 only if it did its work.

    What a person or the machine has caused (`errors.explained`) is printed without a trace.
    Everything else is a defect of ours, and its trace is shown. Streams that go away meanwhile do
    not end the command (`terminal.py`); commands may call others by this.

    Threads that wait sleep, unless the environment says otherwise: those that spin make every
    computation many times slower as soon as anything else runs on the machine
    (docs/performance.md). OpenMP asks once, when torch loads, which no command does before this.

    What the terminal cannot show, a name in letters that it lacks or in bytes that are no UTF-8, is
    printed escaped.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, TextIOWrapper):  # as standard error is from the start
        sys.stdout.reconfigure(errors="backslashreplace")
    if not keep_going():
        return _called(command, debug=debug)
    try:
        return final_code(_called(command, debug=debug))
    except SystemExit as leaving:
        if isinstance(leaving.code, int | None):
            raise SystemExit(final_code(leaving.code or 0)) from None
        raise


def _called(command: Callable[[], int], *, debug: bool) -> int:
    try:
        return command()
    except OtherRankError as error:
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: no error ends without a word
        known = explained(error)
        if known is None or debug:
            traceback.print_exc()
        else:
            for line in str(known).splitlines():
                print(f"error: {line}", file=sys.stderr)
        return INTERNAL_ERROR if known is None else known.exit_code
