"""Windows of made-up tokens, whose counts are made up, too."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.embed.windows import Boundaries, Part, Span, TokenStarts, WindowSize, windows


class Starts(list):
    """Where tokens begin; no two are of one word, unless it is said."""

    words = None

    def word(self, index):
        return self.words[index] if self.words else index


def part_of(starts, length, boundaries=None, done=Span(0, 0)):  # noqa: B008
    return Part("x" * length, Starts(starts), length, boundaries or Boundaries(), done)


def test_starts_are_what_windows_need():
    assert isinstance(Starts(), TokenStarts)


def test_windows_step_by_size_less_overlap():
    part = part_of(range(0, 100, 10), 100)
    assert windows(WindowSize(4, 1), part, None) == [(0, 40), (30, 70), (60, 100)]
    assert windows(WindowSize(4, 0), part, None) == [(0, 40), (40, 80), (80, 100)]


@pytest.mark.parametrize("num_tokens", [4, 5, 7, 8])
def test_the_last_window_ends_behind_the_one_before(num_tokens):
    part = part_of(range(num_tokens), num_tokens)
    spans = windows(WindowSize(4, 3), part, None)
    assert len(spans) == num_tokens - 3
    assert [end for _, end in spans] == list(range(4, num_tokens + 1))


def test_it_goes_on_from_what_is_done():
    part = part_of(range(0, 100, 10), 100, done=Span(50, 60))
    assert windows(WindowSize(4, 1), part, None) == [(50, 90), (80, 100)]


def test_windows_end_and_begin_with_words():
    part = part_of(range(12), 12)
    part.starts.words = [0, 1, 2, 2, 4, 5, 6, 6, 6, 9, 10, 11]
    assert windows(WindowSize(4, 1), part, None) == [(0, 4), (2, 6), (5, 9), (6, 10), (9, 12)]


def test_a_boundary_is_taken_within_the_tolerance_alone():
    part = part_of(range(100), 100, Boundaries([5, 9, 70], 0.2))
    assert windows(WindowSize(10, 0), part, None)[:2] == [(0, 9), (9, 19)]
    part = part_of(range(100), 100, Boundaries([7], 0.2))
    assert windows(WindowSize(10, 0), part, None)[0] == (0, 10)


def test_units_are_whole_and_overlap_by_whole_ones():
    part = part_of(range(40), 40, Boundaries([6, 9, 12, 30, 40], 1.0, are_units=True))
    spans = windows(WindowSize(10, 4), part, None)
    assert spans[:3] == [(0, 9), (6, 12), (9, 19)]


def test_a_window_that_has_too_many_tokens_by_itself_is_shorter():
    """Each has two more than in the text, as where a word is cut in two."""
    part = part_of(range(30), 30)
    spans = windows(WindowSize(10, 2), part, lambda span: span.end - span.start + 2)
    assert all(end - start == 8 for start, end in spans[:-1])
    assert [start for start, _ in spans[:3]] == [0, 6, 12]


@given(
    st.lists(st.integers(0, 30), min_size=0, max_size=60).map(sorted),
    st.integers(1, 12),
    st.integers(0, 11),
    st.lists(st.integers(1, 34), max_size=8).map(lambda ends: sorted(set(ends))),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 3),
)
def test_whatever_tokens_do_all_is_covered_in_order(
    starts, size, overlap, ends, tolerance, are_units, more
):
    """Tokens that begin at one character, that begin nowhere, and that multiply when cut out."""
    boundaries = Boundaries([end for end in ends if end <= 34], tolerance, are_units)
    part = part_of(starts, 34, boundaries)

    def count(span):
        inside = bisect_left(starts, span.end) - bisect_left(starts, span.start)
        return 1 if span.end == span.start + 1 else inside + more

    for counted in (None, count):
        spans = windows(WindowSize(size, min(overlap, size - 1)), part, counted)
        covered, before = 0, -1
        for start, end in spans:
            assert before < start <= covered < end
            assert counted is None or count(Span(start, end)) <= size
            covered, before = end, start
        assert covered == 34
