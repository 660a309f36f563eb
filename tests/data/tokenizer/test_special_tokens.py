import pytest
import tokenizers
from tokenizers import models

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.errors import ConfigError
from tests.data.tokenizer.pipelines import wordpiece


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        ({"cls": "nowhere"}, "special token cls='nowhere': not in the vocabulary"),
        ({"bos": "[CLS]"}, "choose from cls, sep, pad, mask, unk"),
        ({"cls": "[SEP]"}, "cls, sep, pad and mask must differ"),
    ],
)
def test_wrong_special_tokens_are_named(tmp_path, special_tokens, message):
    with pytest.raises(ConfigError) as error:
        load_tokenizer(wordpiece(tmp_path), special_tokens)
    assert message in str(error.value)
    assert "tokenizer.json" in str(error.value)


def test_all_missing_special_tokens_are_named_with_the_remedy(tmp_path):
    tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError) as error:
        load_tokenizer(tmp_path)
    lines = str(error.value).splitlines()
    assert [role for role in ("cls", "sep", "pad", "mask") if f"no {role} token" in str(lines)] == [
        "cls",
        "sep",
        "pad",
        "mask",
    ]
    assert all("special_tokens_map.json" in line for line in lines)
