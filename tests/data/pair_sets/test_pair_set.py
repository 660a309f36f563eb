import json
from pathlib import Path

import numpy as np
import pytest

from kl3m_embeddings.data.pair_sets.build import build_pair_set
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.errors import DataError
from tests.data.pair_sets.rows import LABELLED, ROWS, contents, replace, texts_of


def test_content(build, tokenizer):
    pairs = build().pair_set
    assert texts_of(pairs, tokenizer, pairs.queries) == ["the order", "the court", "the party"]
    assert texts_of(pairs, tokenizer, pairs.positives) == ["is final", "is final", "notice"]
    assert pairs.positive_starts.tolist() == [0, 1, 2, 3]
    assert texts_of(pairs, tokenizer, pairs.negatives) == ["may", "shall", "the order"]
    assert pairs.negative_starts.tolist() == [0, 2, 3, 3]
    assert np.array_equal(pairs.positive_scores, [np.nan, np.nan, 1], equal_nan=True)
    assert np.array_equal(pairs.negative_scores, [0.5, 0.25, np.nan], equal_nan=True)
    assert (pairs.num_rows, pairs.num_texts, pairs.min_negatives) == (3, 7, 0)
    assert (pairs.has_labels, pairs.has_teacher_scores, pairs.labels) == (False, False, None)
    assert pairs.tokenizer_fingerprint == tokenizer.fingerprint


def test_places_name_the_line(build, tokenizer, write_jsonl, tmp_path):
    pairs = build().pair_set
    expected = [f"documents.jsonl:{line}" for line in (1, 3, 4)]
    assert [pairs.place(row) for row in range(3)] == expected
    paths = [write_jsonl(ROWS, name) for name in ("a.jsonl", "b.jsonl")]
    pairs = build_pair_set("two", paths, tokenizer, tmp_path).pair_set
    assert (pairs.place(2), pairs.place(3)) == ("a.jsonl:4", "b.jsonl:1")
    with pytest.raises(IndexError):
        pairs.place(6)


def test_labels_and_whole_teacher_scores(build):
    labelled = build(LABELLED * 2).pair_set
    assert (labelled.has_labels, labelled.labels.tolist()) == (True, [1, 1])
    assert (labelled.positive_scores, labelled.negative_scores) == (None, None)
    row = {"query": "a", "pos": ["b"], "neg": ["c"], "pos_scores": [2], "neg_scores": [1]}
    assert build([row], overwrite=True).pair_set.has_teacher_scores


def test_text_tokens(build, tokenizer):
    pairs = build().pair_set
    ids = np.array([3, 0, pairs.num_texts - 1, 0])
    for length in (1, 2, 50):
        tokens, lengths = pairs.text_tokens(ids, length)
        assert tokens.shape == (4, length)
        for text, row, num_tokens in zip(ids, tokens, lengths, strict=True):
            expected = pairs.texts.document_tokens(int(text))[:length]
            assert row[:num_tokens].tolist() == expected.tolist()
            assert not row[num_tokens:].any()


def test_a_set_of_an_older_version_is_told_and_built_again(build):
    pairs = build().pair_set
    info = json.loads((pairs.path / "dataset.json").read_text())
    replace(pairs.path / "dataset.json", json.dumps(info | {"version": 2}).encode())
    with pytest.raises(DataError, match="not a pair set of format kl3m-pair-set 3; remove"):
        PairSet.open(pairs.path)
    assert build().was_built


def test_damage_is_noticed_and_mended(build, tokenizer, tmp_path):
    pairs = build().pair_set
    pairs.verify()
    intact = contents(pairs.path)
    replace(pairs.path / "lines.npy", intact[Path("lines.npy")][:-1] + b"\7")
    with pytest.raises(DataError, match=r"lines\.npy: its SHA-256"):
        pairs.verify()
    for name in ("texts/tokens-00000.bin", "negatives.npy"):  # the first in order is named
        replace(pairs.path / name, b"")
        with pytest.raises(DataError, match=f"{name}: has 0 bytes"):
            PairSet.open(pairs.path)
    source = tmp_path / "documents.jsonl"
    assert build_pair_set("tiny", source, tokenizer, tmp_path / "out").was_built
    assert contents(pairs.path) == intact
