"""What is shown of names and numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.report.names import count, counted, duration, number, percent, printable


@given(st.text(), st.integers(2, 50))
def test_printable_holds_no_control_character_and_fits(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


def test_printable_disarms_escapes_and_direction_marks():
    assert printable("a\x1b[31mred\nb\u202ec\ud800") == "a?[31mred?b?c?"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"), (float("nan"), "-"), (0, "0"), (0.0, "0"), (0.0002, "2e-4"), (4.0, "4.000"),
        (0.000143, "1.43e-4"), (3.2041, "3.204"), (31.26, "31.26"), (119195.1, "119,195"),
        (4000, "4,000"), (-2.5, "-2.500"), (2e15, "2e15"),
    ],
)  # fmt: skip
def test_number(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"), (0, "0"), (950, "950"), (9999, "9,999"), (16384, "16.4k"), (999_960, "1000k"),
        (1_254_000, "1.25M"), (3.1e9, "3.1B"), (2e12, "2T"),
    ],
)  # fmt: skip
def test_count(value, shown):
    assert count(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (None, "-"), (0, "0%"), (0.0001, "<0.1%"), (0.005, "0.5%"), (0.0994, "9.9%"),
        (0.0996, "10%"), (0.123, "12%"), (1, "100%"),
    ],
)  # fmt: skip
def test_percent(share, shown):
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"), (0, "0 ms"), (0.0412, "41.2 ms"), (45, "45 s"), (59.99, "60 s"),
        (725, "12 min 5 s"), (12000, "3 h 20 min"), (439200, "5 d 2 h"),
    ],
)  # fmt: skip
def test_duration(seconds, shown):
    assert duration(seconds) == shown


def test_counted():
    assert [counted(1, "step"), counted(2000, "step")] == ["1 step", "2,000 steps"]
