import json

import pytest

from kl3m_embeddings.data.pair_sets import build as build_module
from kl3m_embeddings.data.pair_sets import writer
from tests.data.pair_sets.rows import BOTH_ROLES, PREFIXES, ROWS, texts_of


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_equal_texts_have_one_id(build, monkeypatch, batch_rows):
    monkeypatch.setattr(build_module, "BATCH_ROWS", batch_rows)
    pairs = build().pair_set
    assert pairs.positives[0] == pairs.positives[1]
    assert pairs.negatives[2] == pairs.queries[0]
    assert len(set(pairs.queries) | set(pairs.positives) | set(pairs.negatives)) == pairs.num_texts


def test_what_is_left_out_is_counted_and_quarantined(build):
    pairs = build().pair_set
    assert pairs.info["skipped"] == {"no positive": 1}
    assert pairs.info["filtered"] == {"negative equal to a positive": 1}
    quarantine = (pairs.path / "quarantine.jsonl").read_text(encoding="utf-8")
    assert json.loads(quarantine) == {"file": "documents.jsonl", "line": 2, "reason": "no positive"}
    summary = "\n".join(pairs.summary())
    for part in ("3 rows", "nixietune (query, doc, neg)", "not read: id", "1 no positive", "1 neg"):
        assert part in summary


@pytest.mark.parametrize("prefix", ["", "to: "])
def test_a_text_without_tokens_is_no_text(build, tokenizer, monkeypatch, prefix):
    """Whatever tokens its prefix has."""
    encode = writer.encode_texts

    def without_tokens(tokenizer, texts, dtype):
        shown = [text.replace("gone", "").replace("lost", "") for text in texts]
        return encode(tokenizer, shown, dtype)

    monkeypatch.setattr(writer, "encode_texts", without_tokens)
    rows = [
        {"query": "gone", "positive": "b"},
        {"query": "a", "positive": "gone"},
        {"query": "a", "positive": ["gone", "b"], "negative": ["lost", "c"]},
    ]
    pairs = build(rows, query_prefix=prefix, document_prefix=prefix).pair_set
    ids = [*pairs.queries, *pairs.positives, *pairs.negatives]
    assert texts_of(pairs, tokenizer, ids) == [prefix + text for text in "abc"]
    assert pairs.info["skipped"] == {"no query": 1, "no positive": 1}
    assert pairs.info["filtered"] == {"empty text": 3}


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_tokens_are_those_of_prefix_and_text_together(build, tokenizer, monkeypatch, batch_rows):
    monkeypatch.setattr(build_module, "BATCH_ROWS", batch_rows)
    pairs = build(BOTH_ROLES, **PREFIXES).pair_set
    has_merged = []
    for row, values in enumerate(BOTH_ROLES):
        documents = [values["positive"], *values.get("negative", [])]
        ids = [
            pairs.positives[pairs.positive_starts[row]],
            *pairs.negatives[pairs.negative_starts[row] : pairs.negative_starts[row + 1]],
        ]
        expected = [("query: ", values["query"], pairs.queries[row])]
        expected += [("passage: ", *one) for one in zip(documents, ids, strict=True)]
        for prefix, text, number in expected:
            tokens = pairs.texts.document_tokens(int(number)).tolist()
            assert tokens == tokenizer.encode(prefix + text)
            has_merged.append(tokens != tokenizer.encode(prefix) + tokenizer.encode(text))
    assert any(has_merged)
    assert pairs.num_texts == 3 + 4


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_originals_tell_texts_that_differ_by_their_prefix_only(build, monkeypatch, batch_rows):
    monkeypatch.setattr(build_module, "BATCH_ROWS", batch_rows)
    pairs = build(BOTH_ROLES, **PREFIXES).pair_set
    order, court, final = pairs.queries
    (is_final, notice, the_order), the_court = pairs.positives, pairs.negatives[0]
    assert len({order, court, final, is_final, notice, the_order, the_court}) == 7
    for one, other in ((order, the_order), (court, the_court), (final, is_final)):
        assert pairs.originals[one] == pairs.originals[other] == min(one, other)
    assert pairs.originals[notice] == notice
    assert len(set(pairs.originals)) == 4


@pytest.mark.parametrize("prefix", ["", "text: "])
def test_with_equal_prefixes_every_text_is_its_own_original(build, prefix):
    pairs = build(BOTH_ROLES, query_prefix=prefix, document_prefix=prefix).pair_set
    assert pairs.originals.tolist() == list(range(4)) == list(range(pairs.num_texts))
    assert pairs.queries[0] == pairs.positives[2]


def test_a_text_that_begins_with_a_prefix_is_another_text(build):
    rows = [{"query": "the order", "positive": "query: the order"}]
    pairs = build(rows, query_prefix="query: ").pair_set
    assert pairs.queries[0] != pairs.positives[0]
    assert pairs.originals.tolist() == [0, 1]


def test_filters_look_at_texts_without_prefixes(build):
    rows = [{"query": "a", "positive": ["a", "b"], "negative": ["a", "b", "c", "c"]}]
    plain, prefixed = (build(rows, overwrite=True, **one).pair_set for one in ({}, PREFIXES))
    assert prefixed.info["filtered"] == plain.info["filtered"]
    assert sum(plain.info["filtered"].values()) == 4
    assert (len(prefixed.positives), len(prefixed.negatives)) == (1, 1)


@pytest.mark.parametrize("prefixes", [{}, PREFIXES])
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_positive_of_a_query_is_a_negative_in_none_of_its_rows(
    build, tokenizer, monkeypatch, prefixes, batch_rows
):
    monkeypatch.setattr(build_module, "BATCH_ROWS", batch_rows)
    rows = [
        {"query": "court", "doc": "apple pie", "neg": ["order", "may"], "negscore": [1, 2]},
        {"query": "the party", "doc": "notice", "neg": ["order"], "negscore": [3]},
        {"query": "court", "doc": "order", "neg": ["apple pie"], "negscore": [4]},
        {"query": "order", "doc": "court", "neg": ["shall", "court order"], "negscore": [5, 6]},
    ]
    pairs = build(rows, **prefixes).pair_set
    prefix = prefixes.get("document_prefix", "")
    assert texts_of(pairs, tokenizer, pairs.negatives) == [
        prefix + text for text in ("may", "order", "shall", "court order")
    ]
    assert pairs.negative_starts.tolist() == [0, 1, 2, 2, 4]
    assert pairs.negative_scores.tolist() == [2, 3, 5, 6]
    assert pairs.positive_starts.tolist() == [0, 1, 2, 3, 4]
    assert pairs.info["filtered"] == {"negative equal to a positive": 2}


def test_other_content_has_another_hash(build):
    first = build().pair_set
    second = build([*ROWS[:3], {**ROWS[3], "docscore": 2}], overwrite=True).pair_set
    assert first.sha256 != second.sha256
