from pathlib import Path

import pytest

from kl3m_embeddings.config.read import apply_overrides, parse_training
from kl3m_embeddings.errors import ConfigError

PATH = Path("models/x/training.json")
TINY = {"tokenizer": "tokenizers/x", "optimizer": {"total_steps": 10}}


def test_a_key_is_replaced_wherever_it_is():
    fields = {"optimizer": {"peak_lr": 1e-3}, "seed": 1}
    overrides = ["optimizer.peak_lr=1e-4", "seed=7", "data.laws.path=a.jsonl", "compile=true"]
    assert apply_overrides(fields, overrides) == {
        "optimizer": {"peak_lr": 1e-4},
        "seed": 7,
        "data": {"laws": {"path": "a.jsonl"}},
        "compile": True,
    }
    assert fields == {"optimizer": {"peak_lr": 1e-3}, "seed": 1}  # and the file stays


def test_a_value_is_json_or_else_text():
    values = {
        "a=0.5": 0.5,
        "a=null": None,
        'a={"b": [1]}': {"b": [1]},
        "a=x=y": "x=y",
        "a=": "",
    }
    for override, value in values.items():
        assert apply_overrides({}, [override]) == {"a": value}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("tasks.mlm.mask_rate=0.2", "mlm is a number; set mlm as a whole"),
        ("tokenizer.path=x", "tokenizer is not a section"),
    ],
)
def test_what_cannot_be_replaced_is_an_error(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"tasks": {"mlm": 1.0}, "tokenizer": "x"}, [override])


def test_an_override_is_checked_like_the_file():
    with pytest.raises(ConfigError, match=r"optimizer\.peak_rl: .*did you mean peak_lr"):
        parse_training(apply_overrides(TINY, ["optimizer.peak_rl=1"]), PATH)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"a": 1, "a": 2}'])
def test_json_that_cannot_be_read_is_no_text_of_an_override(text):
    with pytest.raises(ConfigError) as raised:
        apply_overrides({}, [f"tokenizer={text}"])
    assert str(raised.value).startswith("--set tokenizer=")
    assert len(str(raised.value)) < 200
