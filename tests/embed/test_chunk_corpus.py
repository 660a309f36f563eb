import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from kl3m_embeddings.data.readers.documents import list_sources
from kl3m_embeddings.embed.chunk_corpus import (
    ChunkRequest,
    build_chunker,
    chunk_corpus,
    output_names,
)
from kl3m_embeddings.embed.chunker import ChunkSize
from kl3m_embeddings.errors import ConfigError, DataError
from tests.encoder.folder.stock_folder import write_tokenizer


@pytest.fixture
def request_of(model):
    """A function: a request; keyword arguments replace its fields."""

    def make(**fields):
        return ChunkRequest(**{"model": str(model), "size": ChunkSize(num_tokens=64)} | fields)

    return make


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_each_input_has_an_output_of_its_name(corpus, tmp_path, request_of):
    result = chunk_corpus([str(corpus)], tmp_path / "out", request_of())
    names = ["a.parquet", "b.parquet", "more/c.parquet"]
    assert sorted(contents(tmp_path / "out")) == names
    assert [one.output for one in result.outputs] == names
    assert result.made == ["a.jsonl", "b.csv", "more/c.jsonl"]
    assert not result.faults
    rows = parquet.read_table(tmp_path / "out" / "b.parquet").num_rows
    assert result.outputs[1].counts["chunks"] == rows > 6


def test_the_same_command_again_does_nothing(corpus, tmp_path, request_of):
    chunk_corpus([str(corpus)], tmp_path / "out", request_of())
    files = [path for path in (tmp_path / "out").rglob("*") if path.suffix]
    before = {path: path.stat().st_mtime_ns for path in files}
    result = chunk_corpus([str(corpus)], tmp_path / "out", request_of())
    assert not result.made
    assert len(result.outputs) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_faulty_file_is_named_and_the_others_are_done(corpus, tmp_path, request_of):
    (corpus / "bad.parquet").write_bytes(b"PAR1 and no table")
    out = tmp_path / "out"
    result = chunk_corpus([str(corpus)], out, request_of())
    assert len(result.made) == 3
    assert isinstance(result.faults["bad.parquet"], DataError)
    assert not (out / "bad.parquet").exists()
    (corpus / "bad.parquet").unlink()
    (corpus / "bad.jsonl").write_text('{"text": "Mended."}\n')
    result = chunk_corpus([str(corpus)], out, request_of())
    assert result.made == ["bad.jsonl"]
    assert len(result.outputs) == 4


def test_a_file_that_has_changed_is_chunked_again_when_asked(corpus, tmp_path, request_of):
    out = tmp_path / "out"
    chunk_corpus([str(corpus)], out, request_of())
    before = contents(out)
    (corpus / "a.jsonl").write_text('{"text": "Another."}\n')
    with pytest.raises(ConfigError, match=r"a.jsonl: has changed .*--refresh"):
        chunk_corpus([str(corpus)], out, request_of())
    assert contents(out) == before
    result = chunk_corpus([str(corpus)], out, request_of(), refresh=True)
    assert result.made == ["a.jsonl"]
    assert parquet.read_table(out / "a.parquet")["text"].to_pylist() == ["Another."]
    assert {name: one for name, one in contents(out).items() if name != "a.parquet"} == {
        name: one for name, one in before.items() if name != "a.parquet"
    }


def test_an_output_that_is_gone_is_made_again(corpus, tmp_path, request_of):
    out = tmp_path / "out"
    chunk_corpus([str(corpus)], out, request_of())
    before = contents(out)
    (out / "b.parquet").unlink()
    os.truncate(out / "a.parquet", 10)
    assert chunk_corpus([str(corpus)], out, request_of()).made == ["a.jsonl", "b.csv"]
    assert contents(out) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": ChunkSize(num_tokens=40)}, "num_tokens: was 64, is 40"),
        ({"by": "lines"}, "by: was None, is 'lines'"),
        ({"keep_columns": ("title",)}, r"keep_columns: was \[\], is \['title'\]"),
    ],
)
def test_other_settings_are_refused(corpus, tmp_path, request_of, changes, says):
    chunk_corpus([str(corpus)], tmp_path / "out", request_of())
    with pytest.raises(ConfigError, match=says):
        chunk_corpus([str(corpus)], tmp_path / "out", request_of(**changes))


def test_another_tokenizer_is_refused_and_the_same_one_elsewhere_is_not(
    corpus, tmp_path, request_of, model
):
    chunk_corpus([str(corpus)], tmp_path / "out", request_of())
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert not chunk_corpus([str(corpus)], tmp_path / "out", request_of(model=str(copy))).made
    write_tokenizer(copy, model_max_length=66, lowercase=False)
    with pytest.raises(ConfigError, match="tokenizer: was"):
        chunk_corpus([str(corpus)], tmp_path / "out", request_of(model=str(copy)))


def test_two_inputs_of_one_output_are_refused(tmp_path):
    for name in ("a.jsonl", "a.csv.gz"):
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=r"its output would be a.parquet, as that of .*a.csv.gz"):
        output_names(list_sources(tmp_path))


def test_outputs_are_named_by_what_is_read(tmp_path):
    for name in ("a.b.jsonl.gz", "c.TXT", "d.parquet"):
        (tmp_path / name).write_text("")
    names = output_names(list_sources([tmp_path, "hf://org/name:train"]))
    assert list(names.values()) == [
        "a.b.parquet", "c.parquet", "d.parquet", "hf--org--name--train.parquet",
    ]  # fmt: skip


def test_the_prompt_is_the_models_unless_another_is_given(model, tmp_path, request_of):
    folder = tmp_path / "prompted"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {
                    "idx": 0,
                    "name": "0",
                    "path": "",
                    "type": "sentence_transformers.models.Transformer",
                }
            ]
        )
    )
    prompts = {"prompts": {"document": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    small = ChunkSize(num_tokens=40)
    assert build_chunker(request_of(model=str(folder), size=small))[1]["prompt"] == "passage: "
    given = request_of(model=str(folder), size=small, prompt="")
    assert build_chunker(given)[1]["prompt"] == ""
    with pytest.raises(ConfigError, match="of the prompt they are"):
        build_chunker(request_of(model=str(folder)))
    with pytest.raises(ConfigError, match="--by and --end"):
        build_chunker(request_of(by="lines", at_sentences=True))


@pytest.mark.slow
def test_workers_write_the_same_bytes_and_tell_their_errors(corpus, tmp_path, request_of):
    (corpus / "bad.parquet").write_bytes(b"PAR1 and no table")
    one = chunk_corpus([str(corpus)], tmp_path / "one", request_of())
    two = chunk_corpus([str(corpus)], tmp_path / "two", request_of(), workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert two.outputs == one.outputs
    assert sorted(two.made) == one.made
    assert [str(error) for error in two.faults.values()] == [str(e) for e in one.faults.values()]


@pytest.mark.slow
def test_killed_and_run_again_the_bytes_are_the_same(corpus, tmp_path, request_of, model):
    """With SIGKILL, as soon as the first file is sealed; what is sealed is not made again."""
    for number in range(20):
        text = (corpus / "a.jsonl").read_text()
        (corpus / f"n{number:02}.jsonl").write_text(text * 20)
    chunk_corpus([str(corpus)], tmp_path / "whole", request_of())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "kl3m_embeddings.commands.cli"]
    code = "from kl3m_embeddings.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "chunk", str(corpus), str(out)]
    command += ["--model", str(model), "--tokens", "64"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    manifest = out / "manifest.jsonl"
    while not manifest.exists() or manifest.read_bytes().count(b"\n") < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    num_sealed = manifest.read_bytes().count(b"\n") - 1
    assert 1 <= num_sealed < 23
    result = chunk_corpus([str(corpus)], out, request_of())
    assert len(result.made) == 23 - num_sealed
    assert contents(out) == contents(tmp_path / "whole")
