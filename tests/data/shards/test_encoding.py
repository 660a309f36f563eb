import numpy as np
import pytest

from kl3m_embeddings.data.shards import encoding
from kl3m_embeddings.data.shards.encoding import cut_text, encode_texts
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer

DTYPE = np.dtype("<u2")


@pytest.fixture
def long_texts(monkeypatch):
    monkeypatch.setattr(encoding, "PIECE_CHARS", 300)
    monkeypatch.setattr(encoding, "CONTEXT_CHARS", 60)
    monkeypatch.setattr(encoding, "BATCH_CHARS", 500)
    generator = np.random.default_rng(0)
    words = ["the", "court", "order", " ", "  ", "\n", "final,", "is", "é", "12(a)", "x" * 30]
    return [" ".join(generator.choice(words, size)) for size in (1, 40, 500, 3000)]


def test_long_texts_are_cut_and_keep_their_tokens(tokenizer, long_texts):
    assert [len(cut_text(tokenizer, text)) > 1 for text in long_texts] == [
        False,
        False,
        True,
        True,
    ]
    assert all("".join(cut_text(tokenizer, text)) == text for text in long_texts)
    tokens = encode_texts(tokenizer, long_texts, DTYPE)
    assert [array.dtype for array in tokens] == [DTYPE] * 4
    assert [array.tolist() for array in tokens] == [tokenizer.encode(text) for text in long_texts]


def test_a_text_without_a_safe_place_stays_whole(tokenizer, long_texts, monkeypatch):
    assert cut_text(tokenizer, "x" * 5000) == ["x" * 5000]
    # every text ends in a token of its own: no cut leaves the tokens as they were
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text: [*encode(self, text), 0])
    assert cut_text(tokenizer, long_texts[3]) == [long_texts[3]]


def test_no_texts(tokenizer):
    assert encode_texts(tokenizer, [], DTYPE) == []
    assert encode_texts(tokenizer, [""], DTYPE)[0].tolist() == []
