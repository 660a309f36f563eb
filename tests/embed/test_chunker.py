"""Chunks of real tokenizers: WordPiece, byte-level BPE, and Unigram, each with its surprises."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.embed import chunker
from kl3m_embeddings.embed.boundaries import at_sentences, by_lines, by_paragraphs, whole_text
from kl3m_embeddings.embed.chunker import MIN_TOKENS, Chunker, ChunkSize
from kl3m_embeddings.errors import ConfigError
from tests.tiny_model import tiny_documents

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece():
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made, trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL)


def byte_level():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": SPECIAL, "initial_alphabet": alphabet, "show_progress": False}
    return made, trainers.BpeTrainer(vocab_size=320, **options)


def unigram():
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
    )
    return made, trainer


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """By name; each as that of a model."""
    loaded = {}
    for make in (wordpiece, byte_level, unigram):
        backend, trainer = make()
        backend.train_from_iterator([one["text"] for one in tiny_documents()], trainer)
        folder = tmp_path_factory.mktemp(make.__name__)
        backend.save(str(folder / "tokenizer.json"))
        loaded[make.__name__] = load_tokenizer(folder)
    return loaded


# normalised to many characters, to none, to another order; joined with what stands before them
ODD = [
    "\ufdfa",
    "\u200b",
    "e\u0301\u0323",
    "½",
    "  ",
    "\n\n",
    "\r\n",
    "🏳️‍🌈",
    "\uff21",
    "ß",
    "中文。",
]
WORDS = st.sampled_from(
    ["The court", " reviews", "unreviewable", ".", " Notice", "§ 4", "\t", "x" * 90, *ODD]
)
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=12)), max_size=90).map("".join)
SPLITS = st.sampled_from([whole_text, at_sentences, by_lines, by_paragraphs])


def assert_chunks(text, chunks, count, limit):
    """Every character lies in one, in order, each with something new, none too long."""
    covered, before = 0, -1
    for start, end, num_tokens in chunks:
        assert before < start <= covered < end
        assert num_tokens == count(text[start:end]) <= limit
        covered, before = end, start
    assert covered == len(text)


@settings(max_examples=60)
@given(
    st.sampled_from(["wordpiece", "byte_level", "unigram"]),
    st.lists(TEXTS, max_size=3),
    st.integers(MIN_TOKENS, 60),
    st.floats(0, 0.99),
    SPLITS,
    st.sampled_from(["", "passage: "]),
)
def test_chunks_cover_the_text_in_order_and_fit(
    tokenizers, name, texts, num_tokens, overlap, split, prompt
):
    tokenizer = tokenizers[name]
    size = ChunkSize(num_tokens=num_tokens, overlap=overlap)
    cut = Chunker(tokenizer, size, split=split, prompt=prompt)
    of_prompt = len(tokenizer.encode(prompt))

    def count(text):
        return max(len(tokenizer.encode(prompt + text)) - of_prompt, 0)

    found = cut.chunk(texts)
    assert len(found) == len(texts)
    for text, chunks in zip(texts, found, strict=True):
        assert_chunks(text, chunks, count, num_tokens)
    assert [cut.chunk([text])[0] for text in texts] == found  # whatever lies beside it


@pytest.mark.parametrize("name", ["wordpiece", "byte_level", "unigram"])
@pytest.mark.parametrize("num_chars", [1, 700, 5000])
def test_a_long_text_is_tokenised_in_parts(tokenizers, monkeypatch, name, num_chars):
    text = " ".join(one["text"] for one in tiny_documents())[:20_000] + "x" * 3000 + " end."
    tokenizer = tokenizers[name]
    cut = Chunker(tokenizer, ChunkSize(num_tokens=50))
    whole = cut.chunk([text])[0]
    monkeypatch.setattr(chunker, "CHARS_AT_ONCE", num_chars)
    parts = cut.chunk([text])[0]
    assert_chunks(text, parts, lambda one: len(tokenizer.encode(one)), 50)
    assert abs(len(parts) - len(whole)) <= 2


def test_windows_are_as_long_as_they_may_be_and_overlap(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    text = "the court " * 500
    per_word = len(tokenizer.encode("the court")) / 2
    chunks = Chunker(tokenizer, ChunkSize(num_tokens=100, overlap=0.2)).chunk([text])[0]
    assert all(99 <= one.num_tokens <= 100 for one in chunks[:-1])
    for one, following in pairwise(chunks):
        shared = text[following.start : one.end].split()
        assert len(shared) * per_word == pytest.approx(20, abs=2)
    without = Chunker(tokenizer, ChunkSize(num_tokens=100, overlap=0.0)).chunk([text])[0]
    assert "".join(text[start:end] for start, end, _ in without) == text


def test_a_chunk_ends_with_a_sentence_if_one_ends_near(tokenizers):
    text = "The court may review any order of the board. " * 40
    size = ChunkSize(num_tokens=120, overlap=0.1, tolerance=0.5)
    chunks = Chunker(tokenizers["wordpiece"], size, split=at_sentences).chunk([text])[0]
    assert len(chunks) > 3
    assert all(text[:end].endswith(". ") for _, end, _ in chunks)
    far = ChunkSize(num_tokens=120, overlap=0.1, tolerance=0.0)
    chunks = Chunker(tokenizers["wordpiece"], far, split=at_sentences).chunk([text])[0]
    assert not all(text[:end].endswith(". ") for _, end, _ in chunks)


def test_lines_stay_whole_where_they_fit(tokenizers):
    lines = [f"{number} the court reviews order {number}\n" for number in range(60)]
    text = "".join(lines) + "x y " * 300
    chunks = Chunker(
        tokenizers["wordpiece"], ChunkSize(num_tokens=90, overlap=0.3), split=by_lines
    ).chunk([text])[0]
    begins = {sum(map(len, lines[:number])) for number in range(61)}
    whole = [one for one in chunks if one.end <= len("".join(lines))]
    assert len(whole) > 3
    assert all(one.start in begins and one.end in begins for one in whole)


@pytest.mark.parametrize(
    ("options", "max_length", "says"),
    [
        ({"num_tokens": 31}, None, "--tokens 31: choose 32 or more"),
        ({"overlap": 1.0}, None, "--overlap 1.0: choose 0 or more, and less than 1"),
        ({"overlap": -0.1}, None, "--overlap -0.1"),
        ({"num_tokens": 63}, 64, "they are 65, and the model reads 64: choose 62 or less"),
    ],
)
def test_sizes_that_cannot_be(tokenizers, options, max_length, says):
    with pytest.raises(ConfigError) as raised:
        Chunker(tokenizers["wordpiece"], ChunkSize(**options), max_length=max_length)
    assert says in str(raised.value)


def test_the_prompt_takes_its_room(tokenizers):
    tokenizer = tokenizers["wordpiece"]
    prompt = "passage: "
    room = 64 - 2 - len(tokenizer.encode(prompt))
    Chunker(tokenizer, ChunkSize(num_tokens=room), prompt=prompt, max_length=64)
    with pytest.raises(ConfigError, match=f"choose {room} or less"):
        Chunker(tokenizer, ChunkSize(num_tokens=room + 1), prompt=prompt, max_length=64)


def test_a_chunk_that_grows_when_it_is_cut_out_is_cut_again(tokenizers, monkeypatch):
    """A space before the first word, as `add_prefix_space` puts it, is a token more."""
    tokenizer = tokenizers["byte_level"]
    text = "".join(json.dumps({"a": number}) for number in range(400))
    tried = []
    original = Chunker._one_by_one
    monkeypatch.setattr(Chunker, "_one_by_one", lambda *given: tried.append(1) or original(*given))
    chunks = Chunker(tokenizer, ChunkSize(num_tokens=40)).chunk([text])[0]
    assert tried
    assert_chunks(text, chunks, lambda one: len(tokenizer.encode(one)), 40)
