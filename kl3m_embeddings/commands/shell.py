"""Runs a command: turns its errors into one line on standard error and an exit code."""

import os
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper

from kl3m_embeddings.errors import INTERNAL_ERROR, INTERRUPTED, OtherRankError


def run(command: Callable[[], int], *, debug: bool = False) -> int:
    """Call `command` and return its exit code.

    A `ValueError` that carries an `exit_code` is the user's to mend: its message is printed,
    without a trace. Everything else is a defect of ours, and its trace is shown.

    Threads that wait sleep, unless the environment says otherwise: those that spin make every
    computation many times slower as soon as anything else runs on the machine
    (docs/performance.md). OpenMP asks once, when torch loads, which no command does before this.

    What the terminal cannot show, a name in letters that it lacks or in bytes that are no UTF-8, is
    printed escaped.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, TextIOWrapper):  # as standard error is from the start
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return command()
    except OtherRankError as error:
        return error.exit_code
    except ValueError as error:
        code = getattr(error, "exit_code", None)
        if code is None or debug:
            traceback.print_exc()
        else:
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
        return INTERNAL_ERROR if code is None else int(code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception:  # noqa: BLE001 - the last line of defence: trace, and a code that says "defect"
        traceback.print_exc()
        return INTERNAL_ERROR
