import json

import pytest

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.strict_json import JsonError, parse_json, read_json, read_json_object


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"seed": 1, "seed": 2}', "duplicate key 'seed'"),
        (b'{"optimizer": {"a": 1, "a": 1}}', "duplicate key 'a'"),
        (b'{"seed": NaN}', "NaN is not a number that JSON knows"),
        (b'{"seed": -Infinity}', "-Infinity is not a number"),
        (b'{\n"seed": 1,\n}', "training.json:3: not JSON"),
        (b"", "training.json:1: not JSON"),
        (b"[1]", "must hold one JSON object"),
        (b'{"seed": "\xff"}', "not UTF-8"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "a number of too many digits"),
        (b'{"seed": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path, text, message):
    path = tmp_path / "training.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as raised:
        read_json_object(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_json_object(tmp_path / "training.json")


def test_what_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="a folder, not a file"):
        read_json_object(tmp_path)


@pytest.mark.parametrize("value", [[{"a": 1}], {"a": [None, 2.5]}, "text", 10**4000, None])
def test_all_else_is_read_as_it_is(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert (
        read_json(path) == parse_json(path.read_bytes()) == parse_json(json.dumps(value)) == value
    )


def test_a_text_that_is_no_json_says_where():
    with pytest.raises(JsonError) as raised:
        parse_json('{\n"a": 1,\n}')
    assert raised.value.line == 3
