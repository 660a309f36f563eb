import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.tokenizer.training import limit_texts, train_tokenizer
from kl3m_embeddings.errors import ConfigError, DataError


def test_golden_ids(tokenizer):
    """Ids of a tokenizer trained on a fixed text: they must never change by themselves."""
    for text, ids in [
        ("The court may set aside the order.", "286 275 319 285 88 281 309 266 274 18"),
        ("naïve\n", "82 69 132 112 90 73 203"),
    ]:
        assert " ".join(map(str, tokenizer.encode(text))) == ids


def test_the_vocabulary_has_the_size_asked_for(tokenizer):
    assert tokenizer.vocab_size == 320
    assert [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id] == [0, 1, 2, 3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_without_unknown_tokens(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids()[ids].any()
    assert tokenizer.backend.decode(ids) == text


def test_too_little_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"26\d tokens only, not 1,000"):
        train_tokenizer(["a few words"] * 3, 1000, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_small_a_vocabulary_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="261 or more"):
        train_tokenizer(["text"], 260, tmp_path)
    assert train_tokenizer([], 261, tmp_path).vocab_size == 261


def test_limit():
    texts = ["x" * 400_000] * 10
    assert len(list(limit_texts(texts, 1.0))) == 3
    assert len(list(limit_texts(texts, None))) == 10
