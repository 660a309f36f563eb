"""Where a text is cut into chunks: spans of its characters, by the tokens that begin there.

A chunk is a window of at most `size` tokens; the next one begins `overlap` tokens before its end.
Windows are laid one after the other, for each may end earlier than planned: at a boundary (the end
of a sentence, a line), or because its text, tokenised by itself, has more tokens than it had as a
part of the whole. Tokenising is not local: half of a word has other tokens than the whole, so that
windows begin and end with words where they can.

What holds of every result: its spans are in order, each ends behind the one before, and every
character lies in at least one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class Span(NamedTuple):
    """Characters from `start` up to `end`, which is not in it."""

    start: int
    end: int


@runtime_checkable
class TokenStarts(Protocol):
    """Where the tokens of a text begin, as positions of its characters, which do not fall."""

    def __len__(self) -> int:
        """Number of tokens."""
        ...

    def __getitem__(self, index: int) -> int:
        """Where a token begins."""
        ...

    def word(self, index: int) -> int:
        """The first token of the word that this token is of; itself, if that is far away."""
        ...


class Boundaries(NamedTuple):
    """Where windows had better end.

    Attributes:
        ends: positions in the text, ascending.
        tolerance: a window may lose this part of its tokens for it, at most.
        are_units: whether windows begin at boundaries, too.
    """

    ends: Sequence[int] = ()
    tolerance: float = 0.0
    are_units: bool = False


class WindowSize(NamedTuple):
    """Tokens of a window, and of what it has in common with the next."""

    size: int
    overlap: int


CountTokens = Callable[[Span], int]
"""How many tokens a span has when it is tokenised by itself, as a model will."""


class Part(NamedTuple):
    """A text, or what has been tokenised of it.

    Attributes:
        text: the whole.
        starts: of the tokens.
        stop: where what was tokenised ends.
        boundaries: where chunks had better end.
        done: where the next chunk begins, and behind which character it has to end, as those
            before it lie in a chunk already.
    """

    text: str
    starts: TokenStarts
    stop: int
    boundaries: Boundaries = Boundaries()
    done: Span = Span(0, 0)


def windows(window: WindowSize, part: Part, count: CountTokens | None) -> list[Span]:
    """The spans of a part, in order.

    Args:
        window: their size and overlap.
        part: from `done` on, up to `stop`.
        count: tokens of a span by itself; None: it has those that it has in the text.
    """
    spans: list[Span] = []
    begin, covered = part.done
    while True:
        end = _end_of(part, window.size, Span(begin, covered), count)
        if end is None:  # nothing new fits beside what overlaps
            begin = covered
            end = _end_of(part, window.size, Span(begin, covered), count)
            assert end is not None  # a character alone always fits
        spans.append(Span(begin, end))
        if end >= part.stop:
            return spans
        begin, covered = _next_begin(part, window, spans[-1]), end


def _end_of(part: Part, size: int, done: Span, count: CountTokens | None) -> int | None:
    """Where the window that begins at `done.start` ends; None: not behind `done.end`."""
    starts, ends, tolerance = part.starts, part.boundaries.ends, part.boundaries.tolerance
    begin, covered = done
    first = bisect_left(starts, begin)
    last = first + size
    while True:
        if last < len(starts) and (word := starts.word(last)) > first + size // 2:
            last = word
        end = starts[last] if last < len(starts) else part.stop
        if end < part.stop:
            keep = min(first + round((1 - tolerance) * size), last)
            lowest = starts[keep] if tolerance < 1 else begin
            end = _boundary(ends, max(lowest, covered), end) or end
        is_new = end > covered
        if not is_new and begin < covered:
            return None
        if not is_new:  # tokens that begin at one character cannot be parted
            end = _next_start(part, last, covered)
        if count is None or end == begin + 1:
            return end
        excess = count(Span(begin, end)) - size
        if excess <= 0:
            return end
        last = bisect_left(starts, end) - excess
        if last <= first or not is_new:  # tokens cannot be parted, but characters
            return _halved(Span(begin, end), covered, size, count)


def _halved(span: Span, covered: int, size: int, count: CountTokens) -> int | None:
    """The end of the first half of a span that fits, of its half, and so on; or as `_end_of`."""
    begin, end = span
    while end > begin + 1 and count(Span(begin, end)) > size:
        end = begin + (end - begin) // 2
    return end if end > covered else None


def _next_start(part: Part, index: int, position: int) -> int:
    """Where the first token from `index` on begins that begins behind the position."""
    while index < len(part.starts):
        if part.starts[index] > position:
            return part.starts[index]
        index += 1
    return part.stop


def _boundary(ends: Sequence[int], lowest: int, highest: int) -> int | None:
    """The last boundary above `lowest`, `highest` at most."""
    index = bisect_right(ends, highest) - 1
    return ends[index] if index >= 0 and ends[index] > lowest else None


def _next_begin(part: Part, window: WindowSize, before: Span) -> int:
    """Where the window behind this one begins: behind its beginning, and at its end at the latest.

    Where windows are made of units, at the first boundary in what would overlap.
    """
    starts, ends = part.starts, part.boundaries.ends
    first = bisect_left(starts, before.end) - window.overlap
    begin = starts[starts.word(first)] if 0 <= first < len(starts) else before.end
    if not before.start < begin <= before.end:
        begin = before.end
    if part.boundaries.are_units:
        index = bisect_right(ends, begin - 1)
        begin = ends[index] if index < len(ends) and ends[index] <= before.end else begin
    return begin
