import pytest

from kl3m_embeddings.data.readers.records import (
    Document,
    ReadOptions,
    Skipped,
    fault_of,
    record_of,
    require_column,
)
from kl3m_embeddings.errors import ConfigError

OPTIONS = ReadOptions(text_column="body", id_column="key", max_line_mb=1)
MB = 1 << 20


def recorded(**values):
    return record_of(values, "x.jsonl", 3, 5, OPTIONS)


@pytest.mark.parametrize(
    ("values", "document"),
    [
        ({"body": "a", "key": "k"}, Document("k", "a")),
        ({"body": "a", "key": 7}, Document("7", "a")),
        ({"body": "a", "key": 0}, Document("0", "a")),
        ({"body": "a", "key": ""}, Document("x.jsonl:3", "a")),
        ({"body": "a", "key": 1.5}, Document("x.jsonl:3", "a")),
        ({"body": "a"}, Document("x.jsonl:3", "a")),
        ({"body": " a\n"}, Document("x.jsonl:3", " a\n")),
    ],
)
def test_a_row_with_a_text_is_a_document(values, document):
    assert recorded(**values) == document


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "no text"),
        ({"text": "of another column"}, "no text"),
        ({"body": None}, "no text"),
        ({"body": ["a"]}, "not a text"),
        ({"body": 5}, "not a text"),
        ({"body": " \n\t"}, "empty"),
        ({"body": "a\0"}, "NUL"),
        ({"body": "a", "key": "k\0"}, "NUL"),
        ({"body": "a", "key": " "}, "empty"),
        ({"body": "\ud800"}, "invalid UTF-8"),
    ],
)
def test_any_other_is_skipped_at_its_line(values, reason):
    assert recorded(**values) == Skipped("x.jsonl", 5, reason)


@pytest.mark.parametrize("character", ["x", "é", "🙂"])
def test_the_limit_is_of_bytes(character):
    size = len(character.encode())
    assert fault_of(character * (MB // size), OPTIONS) is None
    assert fault_of(character * (MB // size + 1), OPTIONS) == "too long"


def test_one_text_column_is_needed():
    require_column(OPTIONS, ["key", "body"], "x.csv")
    with pytest.raises(ConfigError, match=r"x\.csv: no column 'body' among 'a', 'b'; name"):
        require_column(OPTIONS, ["a", "b"], "x.csv")
    with pytest.raises(ConfigError, match=r"more than one column 'body' among 'body', 'body'"):
        require_column(OPTIONS, ["body", "body"], "x.csv")
