"""Reading JSONL: the fast path, the path by lines, and any block size must agree."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.report.read import jsonl
from kl3m_embeddings.report.read.log_table import SCHEMA
from tests.report.logs import log_row, write_lines


def read(path, **sizes):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items():
            patch.setattr(jsonl, name, value)
        frames, lines = [], jsonl.Lines()
        for frame, lines in jsonl.read_columns(path, SCHEMA):  # noqa: B007
            frames.append(frame)
        empty = pl.DataFrame(schema={**SCHEMA, "line": pl.UInt32})
        return pl.concat([empty, *frames]), lines


ODD_LINES = r"""

{
[1]
3
{"loss": 1}
{"step": -1}
{"step": true}
{"step": 1}{"step": 2}
{"step": 1, "loss": "x"}
{"step": 2, "loss": NaN, "task": "a\ud800"}
{"step": 7, "lr": 1, "skipped": null}
{"step": 4, "samples_by_dataset": {}}
"""
LINES = st.one_of(
    st.integers(0, 10**6).map(lambda step: json.dumps(log_row(step)) + "\n"),
    st.sampled_from(ODD_LINES.splitlines(keepends=True)),
    st.sampled_from([" \r\n", "\0\0\n", "\ufeff\n", '{"step": 3, "lr": 1' + "0" * 400 + "}\n"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, max_size=25), st.sampled_from(["", '{"step": 9, "lo', '{"step": 9}']))
def test_block_sizes_and_paths_agree(tmp_path_factory, texts, last):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_bytes(("".join(texts) + last).encode())
    whole, lines = read(path)
    for size in (1, 700):
        for slowest in (1, 10**9):
            part, part_lines = read(path, BLOCK_BYTES=size, LINE_BY_LINE_BYTES=slowest)
            assert part.equals(whole)
            assert part_lines == lines
    assert lines.num_lines == len(texts) + bool(last)
    assert lines.torn == last.endswith("lo")


def test_fast_path_equals_path_by_lines(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "log.jsonl", [log_row(step) for step in range(50)])
    fast, _ = read(path)
    monkeypatch.setattr(jsonl, "parse_fast", lambda block, schema: None)
    slow, _ = read(path)
    assert slow.equals(fast)
    assert fast["line"].to_list() == list(range(1, 51))


def test_good_lines_take_the_fast_path_only(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "log.jsonl", [log_row(step) for step in range(50)])

    def never(*_):
        raise AssertionError("a good log was read by lines")

    monkeypatch.setattr(jsonl, "parse_lines", never)
    assert len(read(path)[0]) == 50


def test_a_bad_line_is_named_and_its_neighbours_are_read(tmp_path):
    rows = [log_row(step) for step in range(1, 301)]
    rows[122] = '{"step": 123, "loss": 3.'
    frame, lines = read(write_lines(tmp_path / "log.jsonl", rows), LINE_BY_LINE_BYTES=500)
    assert [(bad.number, bad.reason) for bad in lines.bad] == [(123, "not JSON")]
    assert frame["step"].to_list() == [step for step in range(1, 301) if step != 123]
    assert lines.notes("log.jsonl") == ["log.jsonl: 1 bad line left out: line 123 (not JSON)"]


def test_a_torn_last_line_is_not_bad(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [log_row(1)])
    path.write_bytes(path.read_bytes() + b'{"step": 2, "lo')
    frame, lines = read(path)
    assert (len(frame), lines.torn, lines.bad) == (1, True, [])
    assert "last line incomplete, ignored" in lines.notes("log.jsonl")[0]


def test_an_endless_line_is_one_bad_line(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [log_row(1), "x" * 50_000, log_row(2)])
    frame, lines = read(path, BLOCK_BYTES=100, MAX_LINE_BYTES=2000)
    assert frame["step"].to_list() == [1, 2]
    assert frame["line"].to_list() == [1, 3]
    assert [bad.number for bad in lines.bad] == [2]


def test_deep_nesting_is_a_bad_line(tmp_path):
    deep = '{"step": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    frame, lines = read(write_lines(tmp_path / "log.jsonl", [deep, log_row(2)]))
    assert 2 in frame["step"].to_list()
    assert lines.num_lines == 2


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        jsonl.read_objects(tmp_path)


def test_many_bad_lines_are_counted_and_the_first_are_kept(tmp_path):
    _, lines = read(write_lines(tmp_path / "log.jsonl", [log_row(1), *["{"] * 3000]))
    assert (lines.num_bad, len(lines.bad), lines.bad[-1].number) == (3000, 100, 101)
    assert lines.notes("log.jsonl")[0].endswith("line 6 (not JSON) and 2,995 more")
