"""Standard output and standard error that may go away while a command works.

The other end of a pipe ends, a terminal vanishes, the disk behind a redirection fills, or a stream
was closed from the start. None of this is a reason to lose hours of training: what cannot be
written is dropped, and the work goes on. Only the end of the command tells: where what it printed
was lost, its exit code is not 0.
"""

import errno
import io
import os
import select
import signal
import sys
from contextlib import suppress

from kl3m_embeddings.errors import OutputError

BROKEN_PIPE = 128 + signal.SIGPIPE
"""The exit code of what a closed pipe has ended, as a shell reports it."""


class Stream(io.FileIO):
    """A standard stream whose writes never fail."""

    lost: OSError | None = None
    """Why something that was written is not there."""

    def write(self, data, /):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - FileIO's
        """Write, or drop what cannot be written."""
        if self.lost is None:
            try:
                while (num_bytes := super().write(data)) is None:  # a pipe that is full for now
                    select.select([], [self], [])
                return num_bytes
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def keep_going() -> bool:
    """Make both streams of this process such that none fails; False if that was done before.

    Where others catch what is said, as tests do, nothing is changed.
    """
    for descriptor in range(3):
        _be_open(descriptor)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    replaced = False
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):
            setattr(sys, name, _guarded(descriptor, getattr(sys, name)))
            replaced = True
    return replaced


def stdout_lost() -> OSError | None:
    """Why something that was printed is not there; None if all is."""
    with suppress(ValueError):  # it was closed
        sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw.lost if isinstance(raw, Stream) else None


def final_code(code: int) -> int:
    """The exit code of a command that is done: not 0 if what it printed was lost."""
    lost = stdout_lost()
    if code or lost is None:
        return code
    if lost.errno == errno.EPIPE:
        return BROKEN_PIPE
    print(f"error: standard output: cannot be written: {lost.strerror}", file=sys.stderr)
    return OutputError.exit_code


def _be_open(descriptor: int) -> None:
    """Put something that cannot be written to where a stream was closed from the start.

    The next file that is opened would take its number, and get what libraries write to the stream.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDONLY)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _guarded(descriptor: int, stream: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """The same stream, of which no write fails."""
    raw = Stream(descriptor, "w", closefd=False)
    is_error = descriptor == 2
    if stream is None:
        errors = "backslashreplace" if is_error else "replace"
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors, line_buffering=is_error)
    with suppress(OSError):
        stream.flush()
    is_unbuffered = isinstance(stream.buffer, io.FileIO)
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
