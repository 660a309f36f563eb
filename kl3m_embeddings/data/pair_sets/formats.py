"""Rows of pairs: the published shapes, and the one form that they are all read into.

1. `recognise` finds a row's format by its keys: every format has keys that no row of it lacks.
2. `check_keys` refuses keys that belong to another format: a file whose rows are of two formats, or
   a list of negatives under another format's name, would train on something else than meant.
3. `pair_row` turns a row's values into a `PairRow`, or says why it is none. What cannot be part of
   a sound loss is filtered out and counted: repeated texts, a query that is its own positive, a
   positive among its negatives.

nixietune: https://github.com/nixiesearch/nixietune
sentence-transformers: https://sbert.net/docs/sentence_transformer/dataset_overview.html
FlagEmbedding: https://github.com/FlagOpen/FlagEmbedding/tree/master/examples/finetune/embedder
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from kl3m_embeddings.data.readers.records import EMPTY, NOT_TEXT, ReadOptions, fault_of
from kl3m_embeddings.errors import DataError

NO_QUERY = "no query"
NO_POSITIVE = "no positive"
NO_LABEL = "no label"
NO_FORMAT = "no known format"
NOT_NUMBER = "label or score is not a number"
ONE_LABEL = "one label for several texts"
SCORES_DIFFER = "as many scores as texts are needed"

EMPTY_TEXT = "empty text"
REPEATED_TEXT = "text repeated in its row"
QUERY_AS_POSITIVE = "positive equal to its query"
QUERY_AS_NEGATIVE = "negative equal to its query"
POSITIVE_AS_NEGATIVE = "negative equal to a positive"

MAX_NUMBER = 1e30  # labels and scores are kept in 32 bits
NUMBERED_NEGATIVE = re.compile(r"negative_\d+")


class PairRow(NamedTuple):
    """A query, what it should find, and what it should not.

    Attributes:
        positives: at least one; of a labelled row exactly one, and the label says how good it is.
        negatives: may be none.
        label: how alike query and positive are; None where the format has no labels.
        positive_scores: a teacher's, one for every positive; NaN where it gave none.
        negative_scores: the same for the negatives.
        line: of the file, counted from 1.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    label: float | None
    positive_scores: tuple[float, ...]
    negative_scores: tuple[float, ...]
    line: int


@dataclass(frozen=True)
class PairFormat:
    """Which key holds what; a negative's key may be numbered: `negative_1`, `negative_2`."""

    name: str
    query: str
    positive: str
    negative: str | None = None
    positive_scores: str | None = None
    negative_scores: str | None = None
    label: str | None = None

    @property
    def required(self) -> set[str]:
        """The keys by which the format is recognised."""
        return {self.query, self.positive} | ({self.label} if self.label else set())

    @property
    def keys(self) -> set[str]:
        """All the keys that it reads."""
        optional = {self.negative, self.positive_scores, self.negative_scores}
        return self.required | {key for key in optional if key}


FORMATS = (
    PairFormat("nixietune (query, positive, negative)", "query", "positive", "negative"),
    PairFormat("nixietune (query, doc, neg)", "query", "doc", "neg", "docscore", "negscore"),
    PairFormat(
        "FlagEmbedding (query, pos, neg)", "query", "pos", "neg", "pos_scores", "neg_scores"
    ),
    PairFormat(
        "sentence-transformers (anchor, positive, negative)", "anchor", "positive", "negative"
    ),
    PairFormat(
        "sentence-transformers (sentence1, sentence2, label)",
        *("sentence1", "sentence2"),
        label="label",
    ),
    PairFormat(
        "sentence-transformers (sentence1, sentence2, score)",
        *("sentence1", "sentence2"),
        label="score",
    ),
)
QUERY_KEYS = {one.query for one in FORMATS}
KNOWN_KEYS = set().union(*(one.keys for one in FORMATS))
TEXTS_KEYS = {key for one in FORMATS for key in (one.positive, one.negative) if key}
NUMBER_KEYS = {
    key for one in FORMATS for key in (one.label, one.positive_scores, one.negative_scores) if key
}


class UnusableRowError(ValueError):
    """A row that gives no pair; the message is the reason."""


def base_key(key: str) -> str:
    """The key without a negative's number."""
    return "negative" if NUMBERED_NEGATIVE.fullmatch(key) else key


def recognise(keys: Iterable[str]) -> PairFormat | None:
    """The format of a row with these keys, if it is a known one."""
    found = set(keys)
    return next((one for one in FORMATS if one.required <= found), None)


def check_keys(pair_format: PairFormat, keys: Iterable[str], place: str) -> set[str]:
    """The keys that the format does not read.

    Raises:
        DataError: naming one that another format would read.
    """
    ignored = {key for key in keys if base_key(key) not in pair_format.keys}
    for key in sorted(ignored):
        if base_key(key) in KNOWN_KEYS:
            raise DataError(
                f"{place}: {key!r} is no key of {pair_format.name}, the format of this file; "
                "put rows of another format in a file of their own, or rename the key"
            )
    return ignored


def pair_row(
    pair_format: PairFormat,
    values: Mapping[str, object],
    line: int,
    options: ReadOptions,
    filtered: Counter[str],
) -> PairRow:
    """The pair in a row's values.

    Args:
        pair_format: of the row.
        values: by key.
        line: of the file.
        options: the limit of a text's length.
        filtered: counts, by reason, the texts that were left out.

    Raises:
        UnusableRowError: there is none.
    """
    query = _only_text(values.get(pair_format.query), options)
    label = None if pair_format.label is None else _label(values.get(pair_format.label))
    # two equal texts are a fair example of a high label, but teach nothing as query and positive
    refused = {} if pair_format.label else {query: QUERY_AS_POSITIVE}
    found = _scored_texts(values, pair_format.positive, pair_format.positive_scores)
    positives = _filtered(found, refused, options, filtered)
    if not positives:
        raise UnusableRowError(NO_POSITIVE)
    if pair_format.label and len(positives) > 1:
        raise UnusableRowError(ONE_LABEL)
    refused = {query: QUERY_AS_NEGATIVE} | dict.fromkeys(positives, POSITIVE_AS_NEGATIVE)
    found = _scored_texts(values, pair_format.negative, pair_format.negative_scores)
    negatives = _filtered(found, refused, options, filtered)
    return PairRow(
        query=query,
        positives=tuple(positives),
        negatives=tuple(negatives),
        label=label,
        positive_scores=tuple(positives.values()),
        negative_scores=tuple(negatives.values()),
        line=line,
    )


def _only_text(value: object, options: ReadOptions) -> str:
    """The query, which must be a clean text."""
    if value is None:
        raise UnusableRowError(NO_QUERY)
    if not isinstance(value, str):
        raise UnusableRowError(NOT_TEXT)
    if fault := fault_of(value, options):
        raise UnusableRowError(NO_QUERY if fault == EMPTY else fault)
    return value


def _label(value: object) -> float:
    if value is None:
        raise UnusableRowError(NO_LABEL)
    return _number(value)


def _number(value: object) -> float:
    if isinstance(value, Decimal):  # of parquet
        value = float(value)
    if not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:  # NaN is not
        raise UnusableRowError(NOT_NUMBER)
    return float(value)


def _scored_texts(
    values: Mapping[str, object], key: str | None, scores_key: str | None
) -> list[tuple[str, float]]:
    """The texts under a key and its numbered kin, each with its score, or NaN."""
    if key is None:
        return []
    texts = [text for name in values if base_key(name) == key for text in _texts(values[name])]
    found = values.get(scores_key) if scores_key else None
    if found is None or found == []:
        return [(text, math.nan) for text in texts]
    scores = [_number(score) for score in (found if isinstance(found, list) else [found])]
    if len(scores) != len(texts):
        raise UnusableRowError(SCORES_DIFFER)
    return list(zip(texts, scores, strict=True))


def _texts(value: object) -> list[str]:
    """A text, a list of texts, or nothing."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    raise UnusableRowError(NOT_TEXT)


def _filtered(
    texts: Iterable[tuple[str, float]],
    refused: Mapping[str, str],
    options: ReadOptions,
    filtered: Counter[str],
) -> dict[str, float]:
    """The scores of the distinct texts that are clean and not `refused`, a reason by text."""
    kept: dict[str, float] = {}
    for text, score in texts:
        fault = fault_of(text, options)
        if fault not in (None, EMPTY):
            raise UnusableRowError(fault)
        if fault == EMPTY:
            filtered[EMPTY_TEXT] += 1
        elif text in refused:
            filtered[refused[text]] += 1
        elif text in kept:
            filtered[REPEATED_TEXT] += 1
        else:
            kept[text] = score
    return kept
