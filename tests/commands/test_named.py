"""`NAME=VALUE` on the command line."""

import pytest

from kl3m_embeddings.commands.named import named_value, named_values
from kl3m_embeddings.errors import ConfigError


def test_values_of_a_name_are_joined_in_order():
    given = ["legal=a.jsonl", "code=b", "legal=c=d.jsonl"]
    assert named_values(given, "") == {"legal": ["a.jsonl", "c=d.jsonl"], "code": ["b"]}
    assert named_value(["a=1", "b=2"], "") == {"a": "1", "b": "2"}


@pytest.mark.parametrize("argument", ["legal", "legal=", "=a.jsonl", "", "="])
def test_what_is_no_name_and_value_is_told(argument):
    with pytest.raises(ConfigError, match="write --data NAME=PATH"):
        named_values([argument], "--data NAME=PATH")


def test_where_there_can_be_one_a_second_value_is_told():
    with pytest.raises(ConfigError, match="given twice"):
        named_value(["a=1", "a=2"], "NAME=COLUMN")
