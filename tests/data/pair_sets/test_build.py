import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kl3m_embeddings.data.pair_sets import build as build_module
from kl3m_embeddings.data.pair_sets import writer
from kl3m_embeddings.data.pair_sets.build import build_pair_set, open_or_build_pair_set
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.shards.build import build_shards
from kl3m_embeddings.errors import ConfigError, DataError, OutputError, RetryError

ROWS = [
    {"query": "the order", "doc": "is final", "neg": ["may", "shall"], "negscore": [0.5, 0.25]},
    {"query": "the court", "doc": None, "neg": []},
    {"query": "the court", "doc": "is final", "neg": ["the order", "is final"], "id": "x"},
    {"query": "the party", "doc": "notice", "docscore": 1},
]
LABELLED = [{"sentence1": "a", "sentence2": "b", "label": 1}]


def contents(folder):
    """Every file of a folder, by name."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def texts_of(pairs, tokenizer, ids):
    return [tokenizer.backend.decode(pairs.texts.document_tokens(int(i)).tolist()) for i in ids]


def replace(path, content):
    """Put another file in a file's place: the one there may be mapped."""
    path.unlink()
    path.write_bytes(content)


@pytest.fixture
def build(tokenizer, write_jsonl, tmp_path):
    """A function that builds a pair set of rows."""

    def build(rows=ROWS, **options):
        return build_pair_set("tiny", write_jsonl(rows), tokenizer, tmp_path / "out", **options)

    return build


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


PREFIXES = {"query_prefix": "query: ", "document_prefix": "passage: "}
BOTH_ROLES = [
    {"query": "the order", "positive": "is final", "negative": ["the court"]},
    {"query": "the court", "positive": "notice", "negative": ["the order", "is final"]},
    {"query": "is final", "positive": "the order"},
]


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


def test_prefixes_are_part_of_what_a_set_is(tokenizer, write_jsonl, tmp_path):
    source = write_jsonl(ROWS)

    def build(**options):
        return build_pair_set("tiny", source, tokenizer, tmp_path / "out", **options)

    pairs = build(**PREFIXES).pair_set
    assert (pairs.query_prefix, pairs.document_prefix) == ("query: ", "passage: ")
    assert "before queries: 'query: ', documents: 'passage: '" in "\n".join(pairs.summary())
    assert not build(**PREFIXES).was_built
    with pytest.raises(ConfigError, match="with other query_prefix, document_prefix; overwrite"):
        build()
    plain = build(overwrite=True).pair_set
    assert (plain.query_prefix, plain.document_prefix) == ("", "")
    assert not any("before queries" in line for line in plain.summary())
    assert plain.sha256 != pairs.sha256


def test_a_set_of_an_older_version_is_told_and_built_again(build):
    pairs = build().pair_set
    info = json.loads((pairs.path / "dataset.json").read_text())
    replace(pairs.path / "dataset.json", json.dumps(info | {"version": 2}).encode())
    with pytest.raises(DataError, match="not a pair set of format kl3m-pair-set 3; remove"):
        PairSet.open(pairs.path)
    assert build().was_built


def test_a_built_set_is_opened_as_it_is(build, tokenizer, tmp_path):
    pairs = build(**PREFIXES).pair_set
    for path in (pairs.path, [str(pairs.path)]):
        opened = open_or_build_pair_set("other", path, tokenizer, tmp_path / "cache", **PREFIXES)
        assert (opened.name, opened.path, opened.sha256) == ("other", pairs.path, pairs.sha256)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("key", ["query_prefix", "document_prefix"])
def test_a_built_set_with_another_prefix_is_refused(build, tokenizer, tmp_path, key):
    path = build(**PREFIXES).pair_set.path
    message = rf"tiny: built with {key} '{PREFIXES[key][:5]}.*, and it is to be 'x'; set {key},"
    with pytest.raises(DataError, match=message):
        open_or_build_pair_set("other", path, tokenizer, tmp_path, **PREFIXES | {key: "x"})


def test_a_built_set_of_another_tokenizer_is_refused(build, tokenizer, tiny_tokenizer, tmp_path):
    path = build().pair_set.path
    with pytest.raises(DataError, match=r"tiny: built with another tokenizer .*; build it again"):
        open_or_build_pair_set("other", path, tiny_tokenizer, tmp_path)


def test_a_damaged_set_is_told_not_read_as_files(build, tokenizer, tmp_path):
    path = build().pair_set.path
    replace(path / "lines.npy", b"")
    with pytest.raises(DataError, match=r"lines\.npy: has 0 bytes"):
        open_or_build_pair_set("other", path, tokenizer, tmp_path)


def test_files_are_built_once_into_a_folder_of_their_own(tokenizer, write_jsonl, tmp_path):
    paths = [str(write_jsonl(rows, name)) for rows, name in ((ROWS, "a.jsonl"), (ROWS, "b.jsonl"))]

    def opened(paths, **prefixes):
        return open_or_build_pair_set("tiny", paths, tokenizer, tmp_path / "cache", **prefixes)

    first = opened(paths)
    before = contents(tmp_path / "cache")
    assert opened(paths).path == first.path
    assert (first.name, first.num_rows) == ("tiny", 6)
    assert contents(tmp_path / "cache") == before
    others = [
        opened(paths[::-1]),
        opened(paths[:1]),
        opened(paths, query_prefix="a"),
        opened(paths, document_prefix="a"),
    ]
    assert len({first.path, *(other.path for other in others)}) == 5
    write_jsonl(BOTH_ROLES, "a.jsonl")  # changed files take the place of what was built of them
    assert opened(paths[:1]).num_texts == 4
    assert opened(paths[:1]).path == others[1].path


def test_a_folder_with_a_dataset_json_of_another_kind_is_read_as_files(
    tokenizer, write_jsonl, tmp_path
):
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_jsonl(ROWS, "pairs/rows.jsonl")
    for content in ("{}", "[1]", "no JSON"):
        (folder / "dataset.json").write_text(content)
        assert open_or_build_pair_set("tiny", folder, tokenizer, tmp_path).num_rows == 3
    documents = write_jsonl([{"text": "the order"}], "texts.jsonl")
    shards = build_shards("shards", documents, tokenizer, tmp_path).shards.path
    with pytest.raises(DataError, match="shards"):
        open_or_build_pair_set("tiny", shards, tokenizer, tmp_path)


def test_what_is_there_is_not_built_again(tokenizer, write_jsonl, tmp_path):
    source = write_jsonl(ROWS)
    assert build_pair_set("tiny", source, tokenizer, tmp_path).was_built
    before = contents(tmp_path / "tiny")
    assert not build_pair_set("tiny", source, tokenizer, tmp_path).was_built
    os.utime(source, ns=(1, 1))
    with pytest.raises(ConfigError, match="other sources; overwrite it"):
        build_pair_set("tiny", source, tokenizer, tmp_path)
    with pytest.raises(ConfigError, match="other max_line_mb, sources"):
        build_pair_set("tiny", source, tokenizer, tmp_path, max_line_mb=1)
    assert contents(tmp_path / "tiny") == before
    first = PairSet.open(tmp_path / "tiny")
    second = build_pair_set("tiny", source, tokenizer, tmp_path, overwrite=True)
    assert second.was_built
    assert second.pair_set.sha256 == first.sha256  # of the content, not of the source's date
    assert first.queries.tolist() == second.pair_set.queries.tolist()


def test_other_content_has_another_hash(build):
    first = build().pair_set
    second = build([*ROWS[:3], {**ROWS[3], "docscore": 2}], overwrite=True).pair_set
    assert first.sha256 != second.sha256


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


KILLED_BUILD = """
import os, signal, sys
from kl3m_embeddings.data.pair_sets import writer
from kl3m_embeddings.data.pair_sets.build import build_pair_set
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
writer.write_durable_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
source, tokenizer, out = sys.argv[1:]
build_pair_set("tiny", source, load_tokenizer(tokenizer), out, overwrite=True)
"""


def test_a_killed_build_leaves_what_was_there(build, tokenizer, tmp_path):
    pairs = build().pair_set
    before = contents(pairs.path)
    tokenizer.save(tmp_path / "tokenizer", 64)
    paths = [str(tmp_path / name) for name in ("documents.jsonl", "tokenizer", "out")]
    os.utime(paths[0])
    run = subprocess.run([sys.executable, "-c", KILLED_BUILD, *paths], check=False)
    assert run.returncode == -signal.SIGKILL
    left = tmp_path / "out" / ".tiny.partial" / "texts"
    assert (left / "tokens-00000.bin").is_file()
    (left / "tokens-00001.bin").touch()  # there was more text then
    assert contents(pairs.path) == before
    pairs.verify()
    assert build(overwrite=True).pair_set.sha256 == pairs.sha256
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query": "q", "doc": ""}] * 3, r"jsonl:3: no usable row .*skipped: 3 no positive"),
        (
            [{"sentence1": "a", "sentence2": "b", "label": "yes"}],
            "skipped: 1 label or score is not a number",
        ),
        ([], "no row is of a known format"),
        ([ROWS[0], LABELLED[0]], r"documents\.jsonl:2: 'label' is no key of nixietune"),
    ],
)
def test_a_file_without_a_usable_row_is_an_error(build, tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        build(rows)
    assert list((tmp_path / "out").iterdir()) == []


def test_files_with_and_without_labels_do_not_mix(tokenizer, write_jsonl, tmp_path):
    paths = [write_jsonl(rows, name) for rows, name in ((ROWS, "a.jsonl"), (LABELLED, "b.jsonl"))]
    with pytest.raises(DataError, match=r"b\.jsonl has labels and .*a\.jsonl has none"):
        build_pair_set("two", paths, tokenizer, tmp_path / "out")


def test_files_with_labels_and_with_scores_do_not_mix(tokenizer, write_jsonl, tmp_path):
    scored = [{"sentence1": "a", "sentence2": "c", "score": 5}]
    paths = [write_jsonl(LABELLED, "a.jsonl"), write_jsonl(scored, "b.jsonl")]
    with pytest.raises(DataError, match=r"a\.jsonl has 'label', .*b\.jsonl has 'score': they"):
        build_pair_set("two", paths, tokenizer, tmp_path / "out")
    paths = [write_jsonl(LABELLED, name) for name in ("c.jsonl", "d.jsonl")]
    assert build_pair_set("two", paths, tokenizer, tmp_path / "out").pair_set.num_rows == 2


def test_files_of_several_formats_mix(tokenizer, write_jsonl, tmp_path):
    other = [{"anchor": "the order", "positive": "notice"}]
    paths = [write_jsonl(rows, name) for rows, name in ((ROWS, "a.jsonl"), (other, "b.jsonl"))]
    pairs = build_pair_set("two", paths, tokenizer, tmp_path).pair_set
    assert pairs.num_rows == 4
    assert [file["format"][:9] for file in pairs.info["files_read"]] == ["nixietune", "sentence-"]


def test_other_things_are_not_overwritten(tokenizer, write_jsonl, tmp_path):
    source = write_jsonl(ROWS)
    documents = write_jsonl([{"text": "the order"}], "texts.jsonl")
    folder = build_shards("tiny", documents, tokenizer, tmp_path).shards.path
    before = contents(folder)
    with pytest.raises(ConfigError, match="exists and is no pair set"):
        build_pair_set("tiny", source, tokenizer, tmp_path, overwrite=True)
    assert contents(folder) == before
    with pytest.raises(ConfigError, match="pair set name"):
        build_pair_set("a/b", source, tokenizer, tmp_path)
    with pytest.raises(DataError, match="no such file"):
        build_pair_set("x", tmp_path / "none.jsonl", tokenizer, tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        build_pair_set("x", source, tokenizer, source / "out")


def test_a_set_that_is_being_built_is_locked(build, tmp_path):
    partial = tmp_path / "out" / ".tiny.partial"
    partial.mkdir(parents=True)
    descriptor = os.open(partial, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(RetryError, match="another process"):
        build()
    os.close(descriptor)
    assert build().was_built
