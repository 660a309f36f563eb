import pytest

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.files.strict_json import read_json_object


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
        (b'{"seed": "\xff"}', "cannot be read"),
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
