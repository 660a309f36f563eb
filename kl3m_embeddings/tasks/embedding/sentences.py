"""Sentences in rows of token ids, found without decoding them.

What a token's text says of sentences is worked out once for every id of the vocabulary; a row is
then a matter of looking these up. A sentence ends

1. at `.`, `!` or `?` and any closing quotes and brackets, before white space, unless what follows
   the space is a lower-case letter, a digit or a comma (a line break needs no such sign);
2. at `;` or `:` that ends a line, as the items of lists do;
3. at an empty line, and with its document.

A period does not end one after a single letter (`J. Smith`), inside or at the end of a short word
with several (`U.S.C.`), where it stands alone (`. . . .`), or after one of `ABBREVIATIONS`. A line
break alone is no end: much legal text is broken into lines in the middle of sentences.

A tokenizer may know less of a text: without capitals every word may begin a sentence, and without
spaces a quote behind a stop is a closing one.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.data.sentence_ends import ABBREVIATIONS, CLOSERS, GOES_ON, MAX_WORD_LETTERS
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.tasks.masked.lines import next_true

STOP = re.compile(rf"[.!?…][{re.escape(CLOSERS)}]*$")
WORD_END = re.compile(r"(?:[^\W\d_]|\.)+\Z")
WORD_TOKENS = 8  # of a word that are looked at
# An abbreviation's code is a number of three digits to the base 2^21, its last tokens' ids plus 1,
# the last one lowest: 63 bits, and a digit of 0 is no token.
ID_BITS = 21
CODE_TOKENS = 3


@dataclass(frozen=True, kw_only=True)
class TokenMarks:
    """What each id's text says of sentences; all of shape (vocabulary) but the last."""

    is_space: NDArray[np.bool_]
    leads_with_space: NDArray[np.bool_]
    ends_with_space: NDArray[np.bool_]
    breaks_before: NDArray[np.int64]
    """Line breaks before its first letter or sign."""
    breaks_after: NDArray[np.int64]
    """Behind its last one; all there are in white space."""
    stops: NDArray[np.bool_]
    """It ends with a stop, and perhaps closing signs."""
    is_period: NDArray[np.bool_]
    """That stop is a period."""
    closes: NDArray[np.bool_]
    """Nothing but closing quotes and brackets."""
    ends_item: NDArray[np.bool_]
    """It ends with a colon or semicolon."""
    goes_on: NDArray[np.bool_]
    """No sentence begins with it."""
    has_letters: NDArray[np.bool_]
    num_letters: NDArray[np.int64]
    """Of the run of letters and periods before its closing signs."""
    num_periods: NDArray[np.int64]
    continues_word: NDArray[np.bool_]
    """It is all letters and periods: the word may have begun before it."""
    has_open_word: NDArray[np.bool_]
    """It ends with a letter or a period: the word may go on behind it."""
    abbreviations: NDArray[np.int64]
    """Codes of the ids of `data.sentence_ends.ABBREVIATIONS`, sorted."""


@lru_cache(maxsize=4)
def token_marks(tokenizer: Tokenizer) -> TokenMarks:
    """What every id's text says; looked at once."""
    texts = texts_behind_a_word(tokenizer)
    bare = [text.strip() for text in texts]
    unclosed = [text.rstrip(CLOSERS) for text in bare]
    words = [found.group() if (found := WORD_END.search(text)) else "" for text in unclosed]
    ordinary = np.flatnonzero(~tokenizer.special_ids()).tolist()
    has_case = any(bare[index][:1].isupper() for index in ordinary)
    keeps_space = tokenizer.encode('a. "') != tokenizer.encode('a."')
    closes = np.array([bool(text) and not text.strip(CLOSERS) for text in bare])
    goes_on = np.array([_goes_on(text[:1], has_case=has_case) for text in bare])
    return TokenMarks(
        is_space=np.array([not text for text in bare]),
        leads_with_space=np.array([text[:1].isspace() for text in texts]),
        ends_with_space=np.array([text[-1:].isspace() for text in texts]),
        breaks_before=np.array([_breaks(text, text.lstrip()) for text in texts]),
        breaks_after=np.array([_breaks(text, text.rstrip()) for text in texts]),
        stops=np.array([bool(STOP.search(text)) for text in bare]),
        is_period=np.array([text[-1:] == "." for text in unclosed]),
        closes=closes,
        ends_item=np.array([text[-1:] in (";", ":") for text in bare]),
        goes_on=goes_on if keeps_space else goes_on | closes,
        has_letters=np.array([any(map(str.isalpha, text)) for text in bare]),
        num_letters=np.array([len(word) - word.count(".") for word in words]),
        num_periods=np.array([word.count(".") for word in words]),
        continues_word=np.array([bool(w) and w == u for w, u in zip(words, unclosed, strict=True)]),
        has_open_word=np.array([bool(WORD_END.search(text)) for text in texts]),
        abbreviations=_abbreviation_codes(tokenizer, bare),
    )


def texts_behind_a_word(tokenizer: Tokenizer) -> list[str]:
    """Every id's text as it stands behind a word, with the space that it may bring along."""
    decode = tokenizer.backend.decode_batch
    alone: list[str] = decode([[index] for index in range(tokenizer.vocab_size)])
    word = next(index for index, text in enumerate(alone) if text.isascii() and text.isalpha())
    behind: list[str] = decode([[word, index] for index in range(tokenizer.vocab_size)])
    start = alone[word]
    return [
        text.removeprefix(start) if text.startswith(start) else alone[index]
        for index, text in enumerate(behind)
    ]


def _breaks(text: str, stripped: str) -> int:
    """Line breaks in what was stripped."""
    return text.count("\n") - stripped.count("\n")


def _goes_on(first: str, *, has_case: bool) -> bool:
    """Whether no sentence begins with a text of this first character."""
    return first.isdigit() or (first.islower() and has_case) or (bool(first) and first in GOES_ON)


def _abbreviation_codes(tokenizer: Tokenizer, bare: list[str]) -> NDArray[np.int64]:
    """Codes of the abbreviations that are few enough tokens, behind a space and behind a sign."""
    codes = set()
    for word in ABBREVIATIONS.split():
        for spelling in (word, word.upper()):
            for text in (f" {spelling}.", f"({spelling}."):
                ids = [index for index in tokenizer.encode(text) if bare[index] not in ("", "(")]
                if len(ids) <= CODE_TOKENS:
                    codes.add(sum((n + 1) << ID_BITS * k for k, n in enumerate(reversed(ids))))
    return np.array(sorted(codes), dtype=np.int64)


def sentence_lengths(
    tokenizer: Tokenizer,
    tokens: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    at_start: NDArray[np.bool_],
    at_end: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Where whole sentences start, their tokens; elsewhere 0; of shape (rows, width).

    Args:
        tokenizer: of the ids.
        tokens: shape (rows, width).
        lengths: shape (rows): how many of each row's tokens count.
        at_start: shape (rows): does its document begin with the row?
        at_end: shape (rows): does it end with it?
    """
    marks = token_marks(tokenizer)
    width = tokens.shape[1]
    columns, rows = np.arange(width), np.arange(len(tokens))[:, None]
    # (rows, width): what is no white space, and for each column the next one that is not.
    visible = (columns < lengths[:, None]) & ~marks.is_space[tokens]
    following = np.pad(next_true(visible)[:, 1:], ((0, 0), (0, 1)), constant_values=width)
    ends = visible & _is_boundary(marks, tokens, following)
    starts = np.zeros_like(ends)
    end_rows, end_columns = np.nonzero(ends)
    starts[end_rows, following[end_rows, end_columns]] = True
    first = np.argmax(visible, axis=1)
    starts[rows[:, 0], first] |= at_start & visible.any(axis=1)
    ends |= visible & (following == width) & at_end[:, None]
    # A sentence without an end in the row would reach beyond it: it is not whole.
    found: NDArray[np.int64] = np.where(starts, next_true(ends) + 1 - columns, 0)
    return np.where(found + columns <= width, found, 0)


def _is_boundary(
    marks: TokenMarks, tokens: NDArray[np.int64], following: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether a sentence ends with each token; false at the last ones of a row.

    Args:
        marks: of the vocabulary.
        tokens: shape (rows, width).
        following: shape (rows, width): the next column that is no white space, or width.
    """
    width = tokens.shape[1]
    rows, inside = np.arange(len(tokens))[:, None], following < width
    after = tokens[rows, np.minimum(following, width - 1)]
    # Line breaks between a token and the next one that is no white space: those at its end, those
    # of the white space between them (a difference of running sums), those at the next one's
    # beginning.
    breaks = marks.breaks_after[tokens]
    so_far = np.cumsum(breaks, axis=1)
    breaks += so_far[rows, np.minimum(following, width) - 1] - so_far
    breaks += marks.breaks_before[after]
    spaced = marks.ends_with_space[tokens] | marks.leads_with_space[tokens][rows, _next(width)]
    # A closing quote stands for what it closes: the last column at or before it that closes
    # nothing.
    unclosed = np.where(marks.closes[tokens], 0, np.arange(width))
    stopped = _is_stop(marks, tokens)[rows, np.maximum.accumulate(unclosed, axis=1)]
    boundary = stopped & spaced & (~marks.goes_on[after] | (breaks > 0))
    boundary |= (breaks > 1) | (marks.ends_item[tokens] & (breaks > 0))
    result: NDArray[np.bool_] = boundary & inside
    return result


def _next(width: int) -> NDArray[np.int64]:
    """The column after each; of the last one, itself."""
    return np.minimum(np.arange(width) + 1, width - 1)


def _is_stop(marks: TokenMarks, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a token ends with a stop that is no abbreviation's period."""
    stops: NDArray[np.bool_] = marks.stops[tokens]
    rows, columns = np.nonzero(stops & marks.is_period[tokens])
    # (periods, WORD_TOKENS + 1): a period's token, then those before it, backwards.
    before = columns[:, None] - np.arange(WORD_TOKENS + 1)
    ids = tokens[rows[:, None], np.maximum(before, 0)]
    # Whether a token is of one word with the one before it; in_word: with the period's, all
    # between.
    joined = marks.continues_word[ids] & ~marks.leads_with_space[ids]
    joined = joined[:, :-1] & marks.has_open_word[ids[:, 1:]] & (before[:, 1:] >= 0)
    in_word = np.cumprod(np.pad(joined, ((0, 0), (1, 0)), constant_values=True), axis=1)
    num_letters = (marks.num_letters[ids] * in_word).sum(axis=1)
    num_periods = (marks.num_periods[ids] * in_word).sum(axis=1)
    shifts = ID_BITS * np.arange(CODE_TOKENS)
    codes = ((ids + 1) * in_word)[:, :CODE_TOKENS] << shifts
    is_code = (in_word.sum(axis=1) <= CODE_TOKENS) & np.isin(codes.sum(axis=1), marks.abbreviations)
    alone = (num_letters == 0) & (
        marks.leads_with_space[ids[:, 0]] | marks.ends_with_space[ids[:, 1]]
    )
    short = (num_periods > 1) & (num_letters <= MAX_WORD_LETTERS)
    is_abbreviation = (num_letters == 1) | short | is_code
    stops[rows, columns] = ~(is_abbreviation | alone)
    return stops
