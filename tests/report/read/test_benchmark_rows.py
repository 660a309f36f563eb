"""Rows of the benchmark's files: checked, safe to draw."""

import json

import pytest

from kl3m_embeddings.errors import DataError
from kl3m_embeddings.report.read.benchmark_rows import read_query, read_score, read_spectrum
from tests.report.measured import (
    query_row,
    spectrum_rows,
)


@pytest.mark.parametrize("value", ["x", True, [1], {"a": 1}, 10**400, float("inf")])
def test_values_of_other_types_count_as_missing(value):
    numbers = ("score", "low", "high", "step", "num_items", "dim", "full_dim", "difference")
    score = read_score({"model": "m", "task": "t", **dict.fromkeys(numbers, value)})
    assert [getattr(score, name) for name in numbers] == [None] * 5 + [0, 0, None]
    row = {**spectrum_rows()[0], "shape": value, "singular_values": [value, 1.0]}
    spectrum = read_spectrum({**row, "effective_rank": value})
    assert (spectrum.shape, spectrum.singular_values) == (None, [1.0])
    assert "effective_rank" not in spectrum.numbers


def test_neighbours_must_have_text():
    with pytest.raises(DataError, match="no usable text"):
        read_query({**query_row(), "neighbours": [{"score": 1}]})


def test_layers_of_a_kind_have_one_name():
    rows = [read_spectrum(json.loads(json.dumps(row))) for row in spectrum_rows()]
    assert [row.kind for row in rows[:2]] == ["output.dense", "output.dense"]
    assert rows[2].layer is None
    other = read_spectrum({**spectrum_rows()[0], "name": "layers.0.attn.Wqkv.weight"})
    assert other.kind == "attn.Wqkv"
    assert read_spectrum({**spectrum_rows()[0], "name": "pooler"}).kind == "pooler"
