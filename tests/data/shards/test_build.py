import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kl3m_embeddings.data.shards import build as build_module
from kl3m_embeddings.data.shards.build import BuildOptions, build_shards
from kl3m_embeddings.data.shards.progress import PROGRESS_FILE
from kl3m_embeddings.data.shards.token_shards import DATASET_FILE, TokenShards
from kl3m_embeddings.errors import ConfigError, DataError, OutputError, RetryError


def contents(folder):
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def texts_of(shards, tokenizer):
    return [
        tokenizer.backend.decode(shards.document_tokens(i).tolist())
        for i in range(shards.num_documents)
    ]


ROWS = [
    {"id": "a", "text": "the order is final"},
    {"id": "b", "text": ""},
    {"id": "c", "text": "x"},
    {"id": "d", "text": "the order is final"},
    {"id": "e", "text": 5},
    {"id": "f", "text": "the court may review it"},
]


def test_counts_and_content(tokenizer, write_jsonl, tmp_path):
    result = build_shards("tiny", write_jsonl(ROWS), tokenizer, tmp_path)
    shards, info = result.shards, result.shards.info
    assert result.was_built
    assert texts_of(shards, tokenizer) == [ROWS[i]["text"] for i in (0, 2, 3, 5)]
    assert len(shards.document_tokens(1)) == 1  # a document of one token is a document
    assert info["skipped"] == {"empty": 1, "not a text": 1}
    assert info["num_duplicates"] == 1
    assert info["num_text_bytes"] == sum(len(ROWS[i]["text"]) for i in (0, 2, 3, 5))
    quarantine = (shards.path / "quarantine.jsonl").read_text(encoding="utf-8")
    assert json.loads(quarantine) == {"file": "documents.jsonl", "line": 5, "reason": "not a text"}
    assert not {"progress.json", "exact.fingerprints"} & set(contents(shards.path))


def test_exact_duplicates_are_dropped_on_request(tokenizer, write_jsonl, tmp_path):
    options = BuildOptions(drop_duplicates=True)
    info = build_shards("tiny", write_jsonl(ROWS), tokenizer, tmp_path, options=options).shards.info
    assert (info["num_documents"], info["num_duplicates"]) == (3, 1)
    assert info["skipped"]["duplicate"] == 1


def test_near_duplicates_are_dropped_on_request(tokenizer, write_jsonl, tmp_path):
    text = " ".join(f"word{i}" for i in range(200))
    rows = [{"text": text}, {"text": text + " more"}, {"text": text}, {"text": text[::-1]}]
    options = BuildOptions(near_threshold=0.8)
    shards = build_shards("tiny", write_jsonl(rows), tokenizer, tmp_path, options=options).shards
    assert texts_of(shards, tokenizer) == [text, text[::-1]]
    assert shards.info["skipped"] == {"near-duplicate": 1, "duplicate": 1}


def test_large_vocabularies_get_wider_tokens(tokenizer, write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "token_dtype", lambda _: np.dtype("<u4"))
    shards = build_shards("tiny", write_jsonl(ROWS), tokenizer, tmp_path).shards
    assert shards.info["dtype"] == "uint32"
    assert texts_of(shards, tokenizer)[0] == ROWS[0]["text"]


def test_what_is_there_is_not_built_again(tokenizer, write_jsonl, tmp_path):
    source = write_jsonl(ROWS)
    first = build_shards("tiny", source, tokenizer, tmp_path)
    assert not build_shards("tiny", source, tokenizer, tmp_path).was_built
    options = BuildOptions(drop_duplicates=True)
    with pytest.raises(ConfigError, match="other options; give --overwrite"):
        build_shards("tiny", source, tokenizer, tmp_path, options=options)
    os.utime(source, ns=(1, 1))
    with pytest.raises(ConfigError, match="other sources"):
        build_shards("tiny", source, tokenizer, tmp_path)
    second = build_shards("tiny", source, tokenizer, tmp_path, options=options, overwrite=True)
    assert second.was_built
    assert second.shards.num_documents < first.shards.num_documents


@pytest.fixture
def built(tokenizer, write_jsonl, tmp_path):
    """A function that builds a dataset, or finds it."""
    source = write_jsonl(ROWS)
    return lambda: build_shards("tiny", source, tokenizer, tmp_path)


@pytest.mark.parametrize(
    "name", ["tokens-00000.bin", "document_starts.bin", "ids.bin", "id_starts.bin", DATASET_FILE]
)
@pytest.mark.parametrize("damage", ["emptied", "overwritten in place", "gone"])
def test_a_damaged_dataset_is_built_again(built, capsys, name, damage):
    folder = built().shards.path
    assert not built().was_built  # what is there was found whole
    intact, file = contents(folder), folder / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "emptied" else b"7" * file.stat().st_size)
    capsys.readouterr()
    assert built().was_built
    told = capsys.readouterr().err
    assert "building the dataset again" in told or (name, damage) == (DATASET_FILE, "gone")
    assert contents(folder) == intact
    assert not built().was_built


@pytest.mark.parametrize("rows", [[], [{"text": ""}, {"text": " "}]])
def test_an_empty_corpus_is_an_error_at_once(tokenizer, write_jsonl, tmp_path, rows):
    with pytest.raises(DataError, match="no documents") as error:
        build_shards("tiny", write_jsonl(rows), tokenizer, tmp_path / "out")
    assert ("2 empty" in str(error.value)) == bool(rows)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_build_that_fails_at_once_leaves_nothing(tokenizer, write_jsonl, tmp_path):
    options = BuildOptions(text_column="body")
    with pytest.raises(ConfigError, match="no column 'body'"):
        build_shards("tiny", write_jsonl(ROWS), tokenizer, tmp_path / "out", options=options)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x"])
def test_names_are_folder_names(tokenizer, write_jsonl, tmp_path, name):
    with pytest.raises(ConfigError, match="dataset name"):
        build_shards(name, write_jsonl(ROWS), tokenizer, tmp_path)


def test_a_second_build_of_the_same_folder_gives_way(tokenizer, write_jsonl, tmp_path):
    (tmp_path / "tiny").mkdir()
    descriptor = os.open(tmp_path / "tiny", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with pytest.raises(RetryError, match="another process"):
            build_shards("tiny", write_jsonl(ROWS), tokenizer, tmp_path)
    finally:
        os.close(descriptor)
    assert build_shards("tiny", write_jsonl(ROWS), tokenizer, tmp_path).was_built


def test_a_full_disk_is_one_line_and_the_build_can_go_on(tokenizer, write_jsonl, tmp_path):
    rows = [{"text": f"the order {i} of the court " * 40} for i in range(100)]
    rows.append({"text": "the order is long, and has a shard of its own " * 2000})
    source, options = write_jsonl(rows), BuildOptions(shard_tokens=6000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"File too large; .* finished shards are kept"):
            build_shards("tiny", source, tokenizer, tmp_path, options=options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    progress = json.loads((tmp_path / "tiny" / PROGRESS_FILE).read_text(encoding="utf-8"))
    shards = {path.name for path in (tmp_path / "tiny").glob("tokens-*")}
    assert shards == {shard["file"] for shard in progress["shards"]}
    result = build_shards("tiny", source, tokenizer, tmp_path, options=options)
    assert result.num_resumed_documents > 0
    assert result.shards.num_documents == 101
    result.shards.verify()


def mixed_corpus(folder):
    """Files of several kinds with bad rows and duplicates: everything a resume must not mix up."""
    folder.mkdir()
    for name in ("a", "b"):
        with (folder / f"{name}.jsonl").open("wb") as file:
            for i in range(400):
                file.write(b'{"id": "%d", "text": "%d %d is final"}\n' % (i, i % 150, i % 150))
                file.write(b"" if i % 9 else b'{"text": "\xff"}\n{"text": ""}\n')
    (folder / "c.csv").write_text(
        "text\n" + "".join(f'"row {i}\nof the court"\n' for i in range(300)), encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize(("shards_between", "near_threshold"), [(1, None), (2, None), (1, 0.8)])
def test_an_interrupted_build_ends_with_the_same_bytes(
    tokenizer, tmp_path, monkeypatch, shards_between, near_threshold
):
    source = mixed_corpus(tmp_path / "source")
    options = BuildOptions(shard_tokens=900, drop_duplicates=True, near_threshold=near_threshold)
    monkeypatch.setattr(build_module, "BATCH_ROWS", 37)
    whole = build_shards("tiny", source, tokenizer, tmp_path / "whole", options=options)

    class Interruption(BaseException):
        pass

    write, num_shards_before = build_module._write, 0

    def interrupted_write(writer, batch, tokens):
        nonlocal num_shards_before
        write(writer, batch, tokens)
        num_shards = len(writer.progress.shards)
        if num_shards >= num_shards_before + shards_between:
            num_shards_before = num_shards
            raise Interruption

    monkeypatch.setattr(build_module, "_write", interrupted_write)
    num_interruptions, result = 0, None
    while result is None:
        try:
            result = build_shards("tiny", source, tokenizer, tmp_path / "parts", options=options)
        except Interruption:
            num_interruptions += 1
    assert num_interruptions >= 2
    assert result.num_resumed_documents > 0
    assert contents(result.shards.path) == contents(whole.shards.path)


def test_a_changed_source_is_not_resumed(tokenizer, tmp_path, monkeypatch):
    source = mixed_corpus(tmp_path / "source")
    options = BuildOptions(shard_tokens=1000)
    finish = build_module.ShardWriter.finish
    monkeypatch.setattr(build_module.ShardWriter, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_shards("tiny", source, tokenizer, tmp_path, options=options)
    monkeypatch.setattr(build_module.ShardWriter, "finish", finish)
    assert (tmp_path / "tiny" / PROGRESS_FILE).exists()
    (source / "a.jsonl").write_text('{"text": "changed"}\n', encoding="utf-8")
    result = build_shards("tiny", source, tokenizer, tmp_path, options=options)
    assert result.num_resumed_documents == 0
    result.shards.verify()


KILLED_BUILD = """
import sys, time
from kl3m_embeddings.data.shards import build
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer

write = build._write
def slow_write(*arguments):
    write(*arguments)
    time.sleep(0.01)
build._write = slow_write
build.BATCH_ROWS = 16
options = build.BuildOptions(shard_tokens=1000)
source, tokenizer, out = sys.argv[1:]
build.build_shards("tiny", source, load_tokenizer(tokenizer), out, options=options)
"""


@pytest.mark.slow
def test_kill_9_and_the_same_command_again_give_the_same_bytes(tokenizer, tmp_path):
    source = mixed_corpus(tmp_path / "source")
    tokenizer.save(tmp_path / "tokenizer", 128)
    options = BuildOptions(shard_tokens=1000)
    whole = build_shards("tiny", source, tokenizer, tmp_path / "whole", options=options)
    folder = tmp_path / "killed" / "tiny"
    command = [
        sys.executable,
        "-c",
        KILLED_BUILD,
        str(source),
        str(tmp_path / "tokenizer"),
        str(tmp_path / "killed"),
    ]
    num_kills = 0
    while not (folder / DATASET_FILE).exists():
        num_shards = _num_finished_shards(folder)
        process = subprocess.Popen(command)
        while process.poll() is None and _num_finished_shards(folder) < num_shards + 2:
            time.sleep(0.002)
        if process.poll() is None:
            process.kill()
            num_kills += 1
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL)
    assert num_kills >= 3
    assert contents(folder) == contents(whole.shards.path)
    TokenShards.open(folder).verify()


def _num_finished_shards(folder):
    path = folder / PROGRESS_FILE
    try:
        return len(json.loads(path.read_text(encoding="utf-8"))["shards"])
    except FileNotFoundError:
        return 0
