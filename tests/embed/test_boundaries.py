import sys

import pytest

from kl3m_embeddings.embed.boundaries import (
    at_sentences,
    by_lines,
    by_paragraphs,
    splitter,
    whole_text,
)
from kl3m_embeddings.errors import ConfigError, DataError


def parts(text, split, tolerance=0.3):
    found = split(text, tolerance)
    begins = [0, *found.ends]
    return [text[start:end] for start, end in zip(begins, [*found.ends, len(text)], strict=True)]


@pytest.mark.parametrize(
    ("split", "text", "expected"),
    [
        (by_lines, "a\nb\r\nc\rd", ["a\n", "b\r\n", "c\r", "d"]),
        (by_paragraphs, "a\nb\n\n\nc\r\n \r\nd", ["a\nb\n\n\n", "c\r\n \r\n", "d"]),
        (at_sentences, "It ends. So it does.", ["It ends. ", "So it does."]),
        (whole_text, "a\n\nb. C", ["a\n\nb. C"]),
    ],
)
def test_where_texts_may_be_cut(split, text, expected):
    assert parts(text, split) == expected


def test_sentences_may_be_missed_and_units_not():
    assert at_sentences("A. B", 0.3).tolerance == 0.3
    assert not at_sentences("A. B", 0.3).are_units
    assert by_lines("a\nb", 0.3)[1:] == by_paragraphs("a\n\nb", 0.3)[1:] == (1.0, True)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module of splitters."""
    (tmp_path / "my_splits.py").write_text(
        "def halves(text):\n    return [(0, len(text) // 2), (len(text) // 2, len(text))]\n"
        "def backwards(text):\n    return [(3, 4), (0, 2)]\n"
        "def beyond(text):\n    return [(0, len(text) + 1)]\n"
        "def words(text):\n    return text.split()\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_splits"
    sys.modules.pop("my_splits", None)


def test_a_function_of_the_user(module):
    assert parts("abcd", splitter(f"{module}:halves"))[:2] == ["ab", "cd"]
    assert splitter("lines") is by_lines


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("words", "--by words: choose lines, paragraphs or module:function"),
        ("no_such_module:f", "--by no_such_module:f: No module named 'no_such_module'"),
        ("my_splits:f", "--by my_splits:f: module 'my_splits' has no attribute 'f'"),
        ("my_splits:number", "is no function"),
        (":f", "--by :f: Empty module name"),
    ],
)
def test_what_is_no_function_is_one_line(module, name, says):
    with pytest.raises(ConfigError) as raised:
        splitter(name)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("backwards", "gave 0 to 2 of a text of 6 characters, behind 4"),
        ("beyond", "gave 0 to 7 of a text of 6"),
        ("words", "gave 'abc', which is no pair"),
    ],
)
def test_spans_that_are_none_are_the_datas_fault(module, name, says):
    with pytest.raises(DataError) as raised:
        splitter(f"{module}:{name}")("abc de", 0.2)
    assert says in str(raised.value)
