import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kl3m_embeddings.data.pair_sets.build import build_pair_set, open_or_build_pair_set
from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.shards.build import build_shards
from kl3m_embeddings.errors import ConfigError, DamagedError, DataError, OutputError, RetryError
from tests.data.pair_sets.rows import (
    BOTH_ROLES,
    LABELLED,
    PREFIXES,
    ROWS,
    contents,
    replace,
)


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


@pytest.mark.parametrize("name", ["negatives.npy", "texts/tokens-00000.bin", "dataset.json"])
@pytest.mark.parametrize("damage", ["emptied", "overwritten in place", "gone"])
def test_a_damaged_set_of_the_cache_is_built_again(
    tokenizer, write_jsonl, tmp_path, capsys, name, damage
):
    source = write_jsonl(ROWS)

    def opened():
        return open_or_build_pair_set("tiny", source, tokenizer, tmp_path / "cache")

    folder = opened().path
    opened()
    intact, file = contents(folder), folder / name
    capsys.readouterr()
    if damage == "gone":
        file.unlink()
    else:
        replace(file, b"" if damage == "emptied" else b"7" * file.stat().st_size)
    opened()
    assert "building the pair set again" in capsys.readouterr().err
    assert contents(folder) == intact
    opened()
    assert capsys.readouterr().err == ""


def test_a_set_of_the_cache_without_texts_or_a_record_is_built_again(
    tokenizer, write_jsonl, tmp_path
):
    source = write_jsonl(ROWS)
    folder = open_or_build_pair_set("tiny", source, tokenizer, tmp_path / "cache").path
    intact = contents(folder)
    for empties in (False, True):
        shutil.rmtree(folder / "texts")
        if empties:
            replace(folder / "dataset.json", b"")
        open_or_build_pair_set("tiny", source, tokenizer, tmp_path / "cache")
        assert contents(folder) == intact


@pytest.mark.parametrize(
    "change",
    [
        {"query_prefix": None},
        {"files_read": []},
        {"files_read": [{"name": "a"}]},
        {"num_rows": 10**6},
        {"files": {}},
        {"filtered": {"x": -1}},
    ],
)
def test_a_set_that_contradicts_itself_is_built_again_or_told(
    tokenizer, write_jsonl, tmp_path, change
):
    source = write_jsonl(ROWS)
    folder = open_or_build_pair_set("tiny", source, tokenizer, tmp_path / "cache").path
    intact = contents(folder)
    info = json.loads(intact[Path("dataset.json")])
    replace(folder / "dataset.json", json.dumps(info | change).encode())
    with pytest.raises(DamagedError, match=r"dataset.json: .*; remove the folder and build it"):
        open_or_build_pair_set("tiny", folder, tokenizer, tmp_path)  # named, its source is unknown
    open_or_build_pair_set("tiny", source, tokenizer, tmp_path / "cache")
    assert contents(folder) == intact


def test_a_built_set_that_was_overwritten_is_told(build, tokenizer, tmp_path):
    path = build().pair_set.path
    open_or_build_pair_set("other", path, tokenizer, tmp_path)
    replace(path / "negatives.npy", b"7" * (path / "negatives.npy").stat().st_size)
    with pytest.raises(DamagedError, match=r"negatives\.npy: its SHA-256 .*; remove the folder"):
        open_or_build_pair_set("other", path, tokenizer, tmp_path)
    replace(path / "dataset.json", b"")
    with pytest.raises(DamagedError, match=r"dataset\.json: not JSON: .*; remove the folder"):
        open_or_build_pair_set("other", path, tokenizer, tmp_path)


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


KILLED_BUILD = """
import os, signal, sys
from kl3m_embeddings.data.pair_sets import writer
from kl3m_embeddings.data.pair_sets.build import build_pair_set
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
writer.write_durable_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
source, tokenizer, out = sys.argv[1:]
build_pair_set("tiny", source, load_tokenizer(tokenizer), out, overwrite=True)
"""


@pytest.mark.slow
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
        ([], "there are no rows in it"),
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
