import gzip
import json

import pytest

from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.train.logs import (
    EVAL,
    LOG,
    LOG_FILES,
    OBJECTS,
    ROWS_PER_MEMBER,
    GzipWriter,
    JsonlWriter,
    cut_logs,
)


def rows_of(path):
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    return [json.loads(line)["step"] for line in content.splitlines()]


def write_rows(folder, first, last, sync_at=()):
    """Append rows to all logs, and return the offsets after some of them."""
    offsets = {}
    with (folder / LOG).open("ab") as log, (folder / OBJECTS).open("ab") as objects:
        writers = {LOG: JsonlWriter(log), OBJECTS: GzipWriter(objects)}
        for step in range(first, last + 1):
            for writer in writers.values():
                writer.write({"step": step})
            if step in sync_at or step == last:
                offsets[step] = {name: writer.sync() for name, writer in writers.items()}
    return offsets


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_line_is_strict_json(value):
    assert json_line({"a": "é\n", "b": None}) == '{"a": "é\\n", "b": null}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"loss": value})


def test_rows_reach_the_file_at_once_and_compressed_ones_at_a_sync(tmp_path):
    with (tmp_path / LOG).open("ab") as log, (tmp_path / OBJECTS).open("ab") as objects:
        plain, compressed = JsonlWriter(log), GzipWriter(objects)
        for writer in (plain, compressed):
            writer.write({"step": 1})
        assert rows_of(tmp_path / LOG) == [1]
        assert (tmp_path / OBJECTS).stat().st_size == 0
        assert plain.sync() == (tmp_path / LOG).stat().st_size
        assert compressed.sync() == (tmp_path / OBJECTS).stat().st_size
        assert compressed.sync() == (tmp_path / OBJECTS).stat().st_size  # nothing is added
        assert rows_of(tmp_path / OBJECTS) == [1]


def test_full_members_do_not_wait_for_a_sync(tmp_path):
    with (tmp_path / OBJECTS).open("ab") as file:
        writer = GzipWriter(file)
        for step in range(ROWS_PER_MEMBER + 3):
            writer.write({"step": step})
        file.flush()
        assert rows_of(tmp_path / OBJECTS) == list(range(ROWS_PER_MEMBER))
        writer.sync()
    assert rows_of(tmp_path / OBJECTS) == list(range(ROWS_PER_MEMBER + 3))


def test_compressed_bytes_do_not_depend_on_the_clock(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, 1, 5)
    assert (tmp_path / "a" / OBJECTS).read_bytes() == (tmp_path / "b" / OBJECTS).read_bytes()


def test_logs_are_cut_where_the_checkpoint_knows_them_and_the_tail_is_kept(tmp_path):
    offsets = write_rows(tmp_path, 1, 9, sync_at=[6])[6]
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"step": 10, "lo')  # the process was killed here
    messages = cut_logs(tmp_path, offsets, 6)
    assert rows_of(tmp_path / LOG) == rows_of(tmp_path / OBJECTS) == [1, 2, 3, 4, 5, 6]
    orphan = (tmp_path / "log.orphan-6-1.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in orphan[:-1]] == [7, 8, 9]
    assert orphan[-1] == b'{"step": 10, "lo'
    assert rows_of(tmp_path / "objects.orphan-6-1.jsonl.gz") == [7, 8, 9]
    assert len(messages) == 2
    assert all("rows past step 6 moved to" in message for message in messages)
    offsets = write_rows(tmp_path, 7, 8)[8]
    assert rows_of(tmp_path / LOG) == rows_of(tmp_path / OBJECTS) == list(range(1, 9))
    assert offsets[LOG] == (tmp_path / LOG).stat().st_size


def test_orphans_are_never_overwritten(tmp_path):
    for _ in range(3):
        write_rows(tmp_path, 1, 2)
        cut_logs(tmp_path, {}, 0)
    assert sorted(path.name for path in tmp_path.glob("log.orphan-*")) == [
        f"log.orphan-0-{number}.jsonl" for number in (1, 2, 3)
    ]
    assert (tmp_path / LOG).read_bytes() == b""


def test_nothing_is_said_when_nothing_is_past_the_checkpoint(tmp_path):
    assert cut_logs(tmp_path, dict.fromkeys(LOG_FILES, 0), 0) == []
    offsets = write_rows(tmp_path, 1, 3)[3]
    assert cut_logs(tmp_path, offsets, 3) == []
    assert rows_of(tmp_path / LOG) == [1, 2, 3]


def test_a_log_that_someone_shortened_is_told(tmp_path):
    (tmp_path / EVAL).write_bytes(b"{}\n")
    messages = cut_logs(tmp_path, {EVAL: 100}, 4)
    assert len(messages) == 1
    assert "shorter than checkpoint 4 knows it" in messages[0]
