"""Rows on disk: what replaces what, and what a spreadsheet makes of them."""

import csv
import json
from dataclasses import asdict, fields, replace

import pytest

from kl3m_embeddings.benchmark.scores import (
    SCORES,
    Score,
    as_cell,
    merged,
    read_scores,
    write_scores,
)
from kl3m_embeddings.errors import DataError
from kl3m_embeddings.report.read import benchmark, benchmark_rows


def score(**fields):
    return Score(
        **{
            "model": "m", "revision": "r1", "step": 5, "baseline": False, "task": "t",
            "task_revision": "d1", "type": "STS", "split": "test", "subset": "default",
            "metric": "cosine_spearman", "score": 0.5, "dim": 32, "full_dim": 32,
            "dtype": "float32", "control": False,
        } | fields
    )  # fmt: skip


def test_rows_survive_their_file(tmp_path):
    rows = [score(), score(task="u", score=None, error="no"), score(low=0.1, high=0.25)]
    write_scores(tmp_path / "deep", rows)
    assert read_scores(tmp_path / "deep") == rows
    assert not list((tmp_path / "deep").glob(".*"))
    assert read_scores(tmp_path) == []


BAD_SCORE = json.dumps(asdict(score()) | {"dim": "64"})


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '"text"', "{}", '{"model": "m"}', "\x00", BAD_SCORE]
)
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    write_scores(tmp_path, [score()])
    path = tmp_path / "scores.jsonl"
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(
        DataError, match=r"scores\.jsonl:2: not a row of this file: .*move the file"
    ):
        read_scores(tmp_path)


def test_not_a_number_is_never_written(tmp_path):
    write_scores(tmp_path, [score()])
    with pytest.raises(ValueError, match="JSON"):
        write_scores(tmp_path, [score(score=float("nan"))])
    assert read_scores(tmp_path) == [score()]


def test_a_new_row_replaces_that_of_its_key():
    old = [score(), score(dim=8), score(task="u")]
    assert merged(old, [score(score=0.75)]) == [score(score=0.75), *old[1:]]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n", "revision": "r2"},
        {"step": 6, "revision": "r2"},
        {"step": 6},  # the first step of a warm-up changes no weight
        {"step": None, "revision": "r2"},
        {"task": "u", "task_revision": "d9"},
        {"split": "dev"},
        {"subset": "fra"},
        {"dim": 8},
        {"dtype": "int8"},
        {"control": True},
    ],
)
def test_other_rows_stay(other):
    assert merged([score(**other)], [score()]) == [score(**other), score()]
    assert merged([score()], [score(**other)]) == [score(), score(**other)]


def test_rows_of_weights_that_are_no_more_are_dropped():
    old = [score(), score(task="u"), score(step=6), score(model="n")]
    new = score(revision="r2")
    assert merged(old, [new]) == [old[2], old[3], new]


def test_rows_of_texts_that_are_no_more_are_dropped():
    """Of all models: scores over other texts are not to be compared."""
    old = [score(), score(dim=8), score(model="n"), score(task="u")]
    new = score(task_revision="d2")
    assert merged(old, [new]) == [old[3], new]


def test_a_failure_goes_when_the_task_has_a_score():
    failed = score(split="", subset="", score=None, dim=0, full_dim=0, error="broken")
    assert merged([failed], [score()]) == [score()]
    assert merged([score()], [replace(failed, model="n")]) == [score(), replace(failed, model="n")]


def test_a_spreadsheet_sees_numbers_and_no_formulas(tmp_path):
    rows = [score(model=f"{start}1+1", difference=-0.25) for start in "=+-@\t\r"]
    write_scores(tmp_path, [*rows, score(model="-", error="=HYPERLINK(1)")])
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    assert [row["model"][0] for row in cells] == ["'"] * 7
    assert {row["difference"] for row in cells} == {"-0.25", ""}
    assert cells[-1]["error"] == "'=HYPERLINK(1)"
    assert list(cells[0]) == list(
        json.loads((tmp_path / "scores.jsonl").read_text().split("\n")[0])
    )


@pytest.mark.parametrize("value", [-0.25, -1, None, True, "a=b", "0"])
def test_other_cells_are_as_they_are(value):
    assert as_cell(value) is value


def test_a_row_is_plain_if_its_vectors_were():
    assert score().is_plain
    for changed in ({"dim": 8}, {"dtype": "int8"}, {"dim": 8, "control": True}):
        assert not score(**changed).is_plain


def test_a_difference_goes_when_the_other_models_score_does():
    compared = {"compared_with": "base", "difference": 0.1}
    compared |= {"difference_low": 0.05, "difference_high": 0.15}
    old = [score(**compared), score(model="base", score=0.4), score(task="u", **compared)]
    old += [score(model="base", task="u", score=0.4)]
    rows = {
        (row.model, row.task): row
        for row in merged(old, [score(model="base", revision="r2", score=0.7)])
    }
    assert rows["m", "t"] == score()  # the score itself stays
    # that model's rows of other tasks are of weights that are no more
    assert rows["m", "u"] == score(task="u")
    kept = merged(old, [score(model="base", step=9, score=0.7)])  # another checkpoint of it
    assert score(**compared) in kept
    # mteb rounds what is read again
    same = merged(old, [score(model="base", score=0.4000004, time_s=9.0)])
    assert score(**compared) in same and score(task="u", **compared) in same


NOT_IN_REPORTS = {"revision", "task_revision"}


def test_the_record_of_the_report_has_the_same_fields():
    """The same names, types and defaults, in the same order."""
    ours, theirs = (
        {one.name: (one.type, one.default) for one in fields(record)}
        for record in (Score, benchmark_rows.Score)
    )
    assert set(ours) - set(theirs) == NOT_IN_REPORTS
    assert [*theirs.items()] == [
        (name, field) for name, field in ours.items() if name not in NOT_IN_REPORTS
    ]


EVERYTHING = {
    "step": 7, "baseline": True, "task_revision": "d", "control": True, "dtype": "int8", "dim": 8,
    "low": 0.25, "high": 0.75, "num_items": 9, "compared_with": "o", "difference": -0.125,
    "difference_low": -0.25, "difference_high": 0.0, "time_s": 1.5,
}  # fmt: skip


def test_the_report_reads_what_is_written_here(tmp_path):
    rows = [
        score(**EVERYTHING),
        score(model="baseline", step=None),
        score(task="failed", score=None, dim=0, full_dim=0, error="why"),
    ]
    changed = {name for one in rows for name, value in asdict(one).items() if value is not None}
    assert changed == set(Score.__dataclass_fields__)  # no field is left at None in all rows
    write_scores(tmp_path, rows)
    read, notes = benchmark.read_scores(tmp_path / SCORES)
    assert notes == []
    for ours, theirs in zip(rows, read, strict=True):
        written = {
            name: value for name, value in asdict(ours).items() if name not in NOT_IN_REPORTS
        }
        assert asdict(theirs) == written
        assert theirs.is_plain == ours.is_plain
