import math
from collections import Counter

import pytest

from kl3m_embeddings.data.pair_sets.formats import (
    FORMATS,
    KNOWN_KEYS,
    UnusableRowError,
    check_keys,
    pair_row,
    recognise,
)
from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.errors import DataError


def read(values, filtered=None):
    """The pair in a row's values: query, positives, negatives, label, scores."""
    counts = Counter() if filtered is None else filtered
    return pair_row(recognise(values), values, 7, ReadOptions(max_line_mb=1), counts)


def reason(values):
    with pytest.raises(UnusableRowError) as error:
        read(values)
    return str(error.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"query": "q", "positive": "p"}, (("p",), ())),
        ({"query": "q", "positive": ["p", "r"], "negative": ["n", "m"]}, (("p", "r"), ("n", "m"))),
        ({"query": "q", "positive": "p", "negative": "n"}, (("p",), ("n",))),
        ({"query": "q", "positive": "p", "negative": None}, (("p",), ())),
        ({"query": "q", "doc": "p", "neg": ["n", "m"]}, (("p",), ("n", "m"))),
        ({"query": "q", "pos": ["p", "r"], "neg": ["n"]}, (("p", "r"), ("n",))),
        ({"query": "q", "pos": ["p"], "neg": []}, (("p",), ())),
        ({"query": "q", "positive": "p", "negative": ["", " "]}, (("p",), ())),
        ({"query": "q", "positive": "p", "negative": ["p", "q"]}, (("p",), ())),
        ({"anchor": "q", "positive": "p", "negative": "n"}, (("p",), ("n",))),
        (
            {
                "anchor": "q",
                "positive": "p",
                "negative_1": "n",
                "negative_2": "",
                "negative_10": "m",
            },
            (("p",), ("n", "m")),
        ),
    ],
)
def test_every_shape_becomes_one_form(values, expected):
    row = read(values)
    assert (row.query, row.positives, row.negatives) == ("q", *expected)
    assert (row.label, row.line) == (None, 7)
    assert all(map(math.isnan, row.positive_scores + row.negative_scores))


@pytest.mark.parametrize(
    ("values", "positive_scores", "negative_scores"),
    [
        (
            {"query": "q", "doc": "p", "neg": ["n"], "negscore": [0.5], "docscore": 2},
            (2.0,),
            (0.5,),
        ),
        (
            {
                "query": "q",
                "pos": ["p", "r"],
                "neg": ["n"],
                "pos_scores": [1, 2],
                "neg_scores": [3],
            },
            (1.0, 2.0),
            (3.0,),
        ),
        # a text that is left out takes its score along
        (
            {
                "query": "q",
                "doc": "p",
                "docscore": 9,
                "neg": ["p", "n", "", "m"],
                "negscore": [1, 2, 3, 4],
            },
            (9.0,),
            (2.0, 4.0),
        ),
    ],
)
def test_teacher_scores_stay_with_their_texts(values, positive_scores, negative_scores):
    row = read(values)
    assert (row.positive_scores, row.negative_scores) == (positive_scores, negative_scores)


@pytest.mark.parametrize(("key", "label"), [("label", 0), ("label", True), ("score", 3.8)])
def test_labels(key, label):
    row = read({"sentence1": "q", "sentence2": "p", key: label})
    assert (row.query, row.positives, row.label) == ("q", ("p",), float(label))


def test_equal_sentences_are_kept_where_there_are_labels():
    assert read({"sentence1": "q", "sentence2": "q", "score": 5}).positives == ("q",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"query": "q", "positive": None}, "no positive"),
        ({"query": "q", "positive": []}, "no positive"),
        ({"query": "q", "positive": [" "]}, "no positive"),
        ({"query": "q", "positive": "q"}, "no positive"),
        ({"query": None, "positive": "p"}, "no query"),
        ({"query": "\n", "positive": "p"}, "no query"),
        ({"query": ["q"], "positive": "p"}, "not a text"),
        ({"query": "q", "positive": 5}, "not a text"),
        ({"query": "q", "positive": {"text": "p"}}, "not a text"),
        ({"query": "q", "positive": ["p", 5]}, "not a text"),
        ({"query": "q", "positive": "p", "negative": [["n"]]}, "not a text"),
        ({"query": "q", "positive": "p", "negative": [None]}, "not a text"),
        ({"query": "q", "positive": "p\0"}, "NUL"),
        ({"query": "q", "positive": "p", "negative": "\ud800"}, "invalid UTF-8"),
        ({"query": "q", "positive": "p" * (1 << 20) + "p"}, "too long"),
        ({"sentence1": "q", "sentence2": "p", "label": None}, "no label"),
        (
            {"sentence1": "q", "sentence2": ["p", "r"], "label": 1},
            "one label for several texts",
        ),
        ({"sentence1": "q", "sentence2": "p", "label": "1"}, "label or score is not a number"),
        ({"sentence1": "q", "sentence2": "p", "score": math.nan}, "label or score is not a number"),
        ({"sentence1": "q", "sentence2": "p", "score": 10**400}, "label or score is not a number"),
        (
            {"query": "q", "doc": "p", "neg": ["n"], "negscore": ["1"]},
            "label or score is not a number",
        ),
        (
            {"query": "q", "doc": "p", "neg": ["n", "m"], "negscore": [1]},
            "as many scores as texts are needed",
        ),
    ],
)
def test_a_row_that_gives_no_pair_says_why(values, expected):
    assert reason(values) == expected


def test_what_makes_a_wrong_loss_is_left_out_and_counted():
    filtered = Counter()
    values = {
        "query": "q",
        "positive": ["p", "q", "p", "r"],
        "negative": ["n", "r", "", "n", "q", "m"],
    }
    row = read(values, filtered)
    assert (row.positives, row.negatives) == (("p", "r"), ("n", "m"))
    assert filtered == {
        "positive equal to its query": 1,
        "text repeated in its row": 2,
        "negative equal to a positive": 1,
        "negative equal to its query": 1,
        "empty text": 1,
    }


@pytest.mark.parametrize(
    "keys", [{"query"}, {"positive"}, {"sentence1", "sentence2"}, {"text"}, set(), {"query", "neg"}]
)
def test_unknown_formats_are_not_guessed(keys):
    assert recognise(keys) is None


@pytest.mark.parametrize("pair_format", FORMATS)
def test_keys_of_other_formats_are_refused(pair_format):
    assert recognise(pair_format.keys) == pair_format
    assert check_keys(pair_format, [*pair_format.keys, "id", "source"], "x:1") == {"id", "source"}
    foreign = KNOWN_KEYS - pair_format.keys
    assert foreign
    for key in foreign:
        with pytest.raises(DataError, match=f"^x:1: '{key}' is no key of {pair_format.name[:10]}"):
            check_keys(pair_format, [*pair_format.keys, key], "x:1")


def test_numbered_negatives_are_foreign_where_negatives_are():
    with pytest.raises(DataError, match="'negative_3'"):
        check_keys(recognise({"query", "pos"}), ["query", "pos", "negative_3"], "x:1")
