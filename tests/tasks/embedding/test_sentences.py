import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.tasks.embedding.sentences import (
    ABBREVIATIONS,
    CLOSERS,
    GOES_ON,
    sentence_lengths,
)

WORDS = (
    "The court No Sec Secs U.S.C D.C. Pub L Inc INC al Smith v J A order Notice 5 552 is final § "
    ". . . ! ? … ; : , ( ) (a) [ ] \" ' “ ” \u2019 — -"
).split()
SPACES = [" ", " ", " ", " ", "  ", "\n", "\n\n", "\r\n", "\t"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]


def train(kind, folder):
    """A tokenizer of a common kind that knows all fragments."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    others = (*WORDS, *ABBREVIATIONS.split())
    texts = [f"{one} {other}.\n" for one in WORDS for other in others]
    options = {"vocab_size": 2000, "special_tokens": SPECIAL, "show_progress": False}
    if kind == "bytes":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(**options)
    elif kind == "sentencepiece":
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
        trainer = trainers.BpeTrainer(**options)
    else:
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=kind == "uncased")
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**options)
    backend.train_from_iterator(texts, trainer)
    backend.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """A function that gives the tokenizer of a kind."""
    found = {}

    def get(kind):
        if kind not in found:
            found[kind] = train(kind, tmp_path_factory.mktemp(kind))
        return found[kind]

    return get


def sentences_of(tokenizer, text, *, at_start=True, at_end=True):
    """The sentences of a text, each as it stands there."""
    ids = np.array([tokenizer.encode(text)], dtype=np.int64)
    flags = (np.array([flag]) for flag in (at_start, at_end))
    lengths = sentence_lengths(
        tokenizer,
        ids,
        np.array([ids.shape[1]]),
        **dict(zip(("at_start", "at_end"), flags, strict=True)),
    )[0]
    decode = tokenizer.backend.decode
    return [
        decode(ids[0, place : place + lengths[place]].tolist()).strip()
        for place in np.flatnonzero(lengths)
    ]


ONE_SENTENCE = [
    "The order is final under 5 U.S.C. 552 and D.C. Code.",
    "The order of Sec. 5 is final (Pub. L. No. 5; see Smith v. Smith Inc. The order).",
    "Notice is J. Smith Inc. A and INC. The order et al. Smith.",
    "The court “is final.” is A. order.",
    "The court is 5. 552 is final, and. so, is. the order.",
    "The\ncourt\r\nis\nNotice, The\nSmith order.",
    ". . . . The order",
]
SENTENCES = [
    ("The court is final. The order is final.", 2),
    ("The court is final! Is it? (a) The order: “Notice.” “Notice!” [The order.] § 5 is final.", 6),
    ("The order of (a). The order of 5. The order of smith.court. The order.", 4),
    ("The order:\n(a) is final;\n5 is final; and\n(a) final.\nis final", 4),
    ("The order\n\nis final\r\n\r\n5", 3),
    ("is final.\nis final.\n5 is final", 3),
]


@pytest.mark.parametrize("text", ONE_SENTENCE)
def test_what_is_no_end(tokenizers, text):
    assert sentences_of(tokenizers("bytes"), text) == [text]


@pytest.mark.parametrize(("text", "number"), SENTENCES)
def test_what_is_an_end(tokenizers, text, number):
    found = sentences_of(tokenizers("bytes"), text)
    assert len(found) == number
    assert re.sub(r"\s", "", "".join(found)) == re.sub(r"\s", "", text)


@pytest.mark.parametrize("kind", ["sentencepiece", "cased", "uncased"])
@pytest.mark.parametrize("text", [one for one in ONE_SENTENCE if "\n" not in one])
def test_other_tokenizers_see_no_end_either(tokenizers, kind, text):
    text = text.replace("“", '"').replace("”", '"')
    if kind == "uncased":
        text = text.replace('final." is A.', 'final"').replace("and. so, is. the", "and")
    assert len(sentences_of(tokenizers(kind), text)) == 1


@pytest.mark.parametrize("kind", ["sentencepiece", "cased", "uncased"])
def test_other_tokenizers_see_ends(tokenizers, kind):
    text = 'The court is final. The order (Sec. 5 of the "order.") Notice! Is it? 5 is final.'
    assert len(sentences_of(tokenizers(kind), text)) == 4


def reference(text):
    """The rules, letter by letter: pairs of first and last place of each sentence."""
    found, start = [], None
    for place, letter in enumerate(text):
        if letter.isspace():
            continue
        start = place if start is None else start
        rest = text[place + 1 :]
        space = rest[: len(rest) - len(rest.lstrip())]
        if not rest.strip() or (space and is_end(text[: place + 1], space, rest.lstrip()[0])):
            found.append((start, place + 1))
            start = None
    return found


def is_end(before, space, following):
    breaks = space.count("\n")
    if breaks > 1 or (breaks and before[-1] in ";:"):
        return True
    bare = before.rstrip(CLOSERS)
    if not bare or bare[-1] not in ".!?…" or (bare[-1] == "." and not is_period(bare)):
        return False
    goes_on = following.islower() or following.isdigit() or following in GOES_ON
    return breaks > 0 or not goes_on


def is_period(bare):
    word = re.search(r"(?:[^\W\d_]|\.)+\Z", bare).group()
    letters = len(word.replace(".", ""))
    if letters == 0:
        earlier = bare[: -len(word)]
        return bool(earlier) and not earlier[-1].isspace()
    several = word.count(".") > 1 and letters <= 6
    known = word[:-1] in ABBREVIATIONS.split() or word[:-1] in ABBREVIATIONS.upper().split()
    return not (letters == 1 or several or known)


texts = st.lists(st.sampled_from(WORDS + SPACES), max_size=25).map("".join)


@settings(max_examples=400)
@given(texts)
@example("The order. ”The (a). [A")
def test_tokens_give_what_the_letters_say(tokenizers, text):
    expected = [text[start:end] for start, end in reference(text)]
    assert sentences_of(tokenizers("bytes"), text or " ") == expected


def lengths_of(tokenizer, rows, *, at_start, at_end, filler=0):
    """`sentence_lengths` of rows of ids, filled up with any id."""
    lengths = np.array([len(row) for row in rows])
    tokens = np.full((len(rows), lengths.max()), filler)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    flags = (np.full(len(rows), flag) for flag in (at_start, at_end))
    at_start, at_end = flags
    found = sentence_lengths(tokenizer, tokens, lengths, at_start=at_start, at_end=at_end)
    return [one[:length].tolist() for one, length in zip(found, lengths, strict=True)]


@given(st.lists(texts, min_size=1, max_size=4), st.booleans(), st.integers(0, 600))
def test_a_row_does_not_depend_on_others_nor_on_what_fills_it(
    tokenizers, several, is_whole, filler
):
    tokenizer = tokenizers("bytes")
    rows = [tokenizer.encode(text) or tokenizer.encode(" ") for text in several]
    flags = {"at_start": is_whole, "at_end": is_whole}
    alone = [lengths_of(tokenizer, [row], **flags)[0] for row in rows]
    assert lengths_of(tokenizer, rows, filler=filler, **flags) == alone


@given(texts, st.integers(0, 30), st.integers(1, 40))
def test_a_window_has_the_sentences_that_are_whole_in_it(tokenizers, text, start, size):
    """Those of the text, if what stands before and behind them is in the window."""
    tokenizer = tokenizers("bytes")
    ids = tokenizer.encode("The order is. " + text + " (The order is final.")
    whole = lengths_of(tokenizer, [ids], at_start=True, at_end=True)[0]
    window = ids[start : start + size]
    found = lengths_of(tokenizer, [window], at_start=False, at_end=False)[0] if window else []
    for place, length in enumerate(found):
        far_enough = place >= 12  # a window may begin in the middle of a word
        assert not (length and far_enough) or whole[start + place] == length
    for place, length in enumerate(whole):
        inside = place - start >= 14 and place + length <= start + size - 4
        assert not (length and inside) or found[place - start] == length
    visible = [
        place for place, index in enumerate(window) if tokenizer.backend.decode([index]).strip()
    ]
    if visible:  # neither what its first token begins nor what its last one ends is known
        assert found[visible[0]] == 0
        assert all(place + length <= visible[-1] for place, length in enumerate(found) if length)
