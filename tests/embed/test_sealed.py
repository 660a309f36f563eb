import json
import os

import pytest

from kl3m_embeddings.embed.sealed import (
    MANIFEST,
    InputFile,
    SealedOutput,
    has_changed,
    open_sealed,
)
from kl3m_embeddings.errors import ConfigError, DamagedError, RetryError
from kl3m_embeddings.files.hashes import sha256_of_file

SETTINGS = {"num_tokens": 500, "prompt": ""}


def opened(folder, settings=SETTINGS, kind="chunks"):
    return open_sealed(folder, kind, settings, what="chunks a corpus")


def sealed_of(folder, name="a.jsonl", content=b"abc"):
    (folder / "a.parquet").write_bytes(content)
    source = InputFile(name=name, num_bytes=3, modified_ns=1, sha256="00")
    counts = {"num_bytes": len(content), "sha256": "11", "counts": {"chunks": 2}, "skipped": {}}
    return SealedOutput(output="a.parquet", input=source, **counts)


def test_what_is_sealed_is_there_the_next_time(tmp_path):
    with opened(tmp_path / "out") as folder:
        assert not folder.outputs
        one = sealed_of(tmp_path / "out")
        folder.seal(one)
    with opened(tmp_path / "out") as folder:
        assert folder.outputs == {"a.jsonl": one}
        assert folder.has("a.jsonl")
        assert not folder.has("b.jsonl")
        (tmp_path / "out" / "a.parquet").write_bytes(b"ab")
        assert not folder.has("a.jsonl")


def test_the_later_line_of_an_input_counts(tmp_path):
    with opened(tmp_path) as folder:
        folder.seal(sealed_of(tmp_path))
        folder.seal(sealed_of(tmp_path, content=b"abcd"))
    with opened(tmp_path) as folder:
        assert folder.outputs["a.jsonl"].num_bytes == 4


def test_a_line_that_was_torn_is_cut_off(tmp_path):
    with opened(tmp_path) as folder:
        folder.seal(sealed_of(tmp_path))
    path = tmp_path / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[1][:40])
    with opened(tmp_path) as folder:
        assert list(folder.outputs) == ["a.jsonl"]
    assert path.read_bytes() == whole
    (tmp_path / "a.parquet").unlink()
    path.write_bytes(whole[:20])  # and the very first one
    with opened(tmp_path) as folder:
        assert not folder.outputs


def test_other_settings_are_refused_with_each_difference(tmp_path):
    with opened(tmp_path):
        pass
    other = {"num_tokens": 250, "prompt": "", "by": "lines"}
    with pytest.raises(ConfigError) as raised, opened(tmp_path, other):
        pass
    lines = str(raised.value).splitlines()
    assert [line.split(": ", 1)[1] for line in lines[:2]] == [
        "by: was None, is 'lines'",
        "num_tokens: was 500, is 250",
    ]
    with (
        pytest.raises(ConfigError, match="of chunks, not vectors"),
        opened(tmp_path, kind="vectors"),
    ):
        pass


def test_a_folder_that_holds_other_things_is_not_written_into(tmp_path):
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(ConfigError, match=r"holds 'thesis.docx' and no manifest.jsonl"):
        opened(tmp_path).__enter__()
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("line", ["[]", '{"output": "x"}', "{", '{"output": 3}'])
def test_a_manifest_that_was_edited_is_told(tmp_path, line):
    with opened(tmp_path):
        pass
    with (tmp_path / MANIFEST).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DamagedError, match=r"manifest.jsonl:2: .*move the folder away"):
        opened(tmp_path).__enter__()


def test_one_process_at_a_time(tmp_path):
    with opened(tmp_path), pytest.raises(RetryError, match="chunks a corpus"), opened(tmp_path):
        pass


def test_a_file_has_changed_if_its_content_has(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("abc")
    status = path.stat()
    facts = {"num_bytes": 3, "modified_ns": status.st_mtime_ns, "sha256": sha256_of_file(path)}
    before = InputFile(name="a.jsonl", **facts)
    assert not has_changed(path, before)
    os.utime(path, ns=(1, 1))
    assert not has_changed(path, before)  # a copy of it
    path.write_text("abd")
    assert has_changed(path, before)


def test_the_manifest_is_json_lines(tmp_path):
    with opened(tmp_path) as folder:
        folder.seal(sealed_of(tmp_path))
    head, line = map(json.loads, (tmp_path / MANIFEST).read_text().splitlines())
    assert head == {"kind": "chunks", "settings": SETTINGS}
    assert line["input"]["name"] == "a.jsonl"
    assert line["counts"] == {"chunks": 2}
