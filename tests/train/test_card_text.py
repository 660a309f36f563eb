"""What is written is read back by PyYAML, as the hub does, and by a Markdown parser's rules."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.train.card_text import fenced, inline, one_line, table, yaml_lines

NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = NUMBERS | TEXTS
KEYS = st.from_regex(r"[a-z][a-z_]{3,8}", fullmatch=True)


def nested(inner):
    lists = st.lists(inner, min_size=1, max_size=3)
    return lists | st.dictionaries(KEYS, inner, min_size=1, max_size=3)


# A list stands below a key: that is all a card has.
VALUES = st.dictionaries(
    KEYS,
    SCALARS
    | st.lists(SCALARS | st.dictionaries(KEYS, SCALARS, min_size=1, max_size=3), min_size=1)
    | st.dictionaries(KEYS, st.recursive(SCALARS, nested, max_leaves=5), min_size=1, max_size=3),
    min_size=1,
    max_size=4,
)


@given(VALUES)
def test_yaml_is_what_pyyaml_reads(value):
    assert yaml.safe_load("\n".join(yaml_lines(value))) == value


@pytest.mark.parametrize("number", [1e-05, 2e-300, 1e22, 0.1, 5, -3])
def test_numbers_stay_numbers(number):
    found = yaml.safe_load("\n".join(yaml_lines({"lr": number})))["lr"]
    assert (type(found), found) == (type(number), number)


def test_half_a_character_is_a_question_mark():
    assert yaml.safe_load("\n".join(yaml_lines({"name": "a\ud800b"}))) == {"name": "a?b"}


@given(TEXTS)
def test_text_is_one_line_and_escapes_are_all_there_is_to_it(text):
    line = inline(text)
    assert len(line.splitlines()) <= 1
    assert re.sub(r"\\(.)", r"\1", line) == one_line(text)
    assert not re.search(r"(?<!\\)[`*\[\]<>|~&#$]", re.sub(r"\\\\", "", line))


def test_tables():
    rows = [["a|b", None, 1234567], ["c", 0.123456, True]]
    assert table(["name", "score", "n"], rows).splitlines() == [
        "| name | score | n |",
        "| --- | --- | --- |",
        "| a\\|b | - | 1,234,567 |",
        "| c | 0.1235 | True |",
    ]


@given(st.text(st.sampled_from("`a\n~"), max_size=30))
def test_no_text_closes_its_fence(text):
    first, *inside, last = fenced(text, "json").split("\n")
    assert "\n".join(inside) == text
    assert first == last + "json"
    assert set(last) == {"`"} and len(last) >= 3
    assert not any(re.match(rf" {{0,3}}{last}", line) for line in inside)
