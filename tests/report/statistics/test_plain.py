"""`stats.json`: the records with their fields in order, strict JSON, nothing unwashed."""

import json
import math
from dataclasses import dataclass, field

import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.plain import LEFT_OUT, as_plain
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import mixed_eval_row, mixed_row, write_run
from tests.report.measured import probe_eval_row, write_measured


@dataclass(frozen=True, kw_only=True)
class Inner:
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Outer:
    z: int
    absent: int | None = field(default=None, metadata=LEFT_OUT)
    null: int | None = None
    no_rows: list[Inner] = field(default_factory=list, metadata=LEFT_OUT)
    rows: list[Inner]
    by_name: dict[str, Inner]


def test_records_are_objects_with_their_fields_in_order():
    plain = as_plain(Outer(z=1, rows=[Inner(value=0.5)], by_name={"b": Inner(value=None)}))
    assert json.dumps(plain) == (
        '{"z": 1, "null": null, "rows": [{"value": 0.5}], "by_name": {"b": {"value": null}}}'
    )


def test_a_field_that_may_be_left_out_stays_if_it_is_0():
    assert as_plain(Outer(z=1, absent=0, no_rows=[Inner(value=1)], rows=[], by_name={})) == {
        "z": 1, "absent": 0, "null": None, "no_rows": [{"value": 1}], "rows": [], "by_name": {},
    }  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null(value):
    assert as_plain([Inner(value=value), {"a": value}]) == [{"value": None}, {"a": None}]


def test_names_and_texts_are_washed():
    assert as_plain({"\x1b[31m": ["a\u202eb", "x" * 2000]}) == {
        "?[31m": ["a?b", "x" * 999 + "…"],
    }


SECTIONS = (
    "name", "notes", "run", "log", "progress", "loss", "loss_by_window", "loss_by_task",
    "loss_by_reduced_dim", "eval", "speed", "phases", "padding", "clipping", "skipped",
    "fallbacks", "datasets",
)  # fmt: skip
MEASURED = (
    "embedding_tasks", "pair_metrics", "probes", "svd_and_quality", "benchmark", "spectra",
)  # fmt: skip


def keys(value):
    """The keys of the first object of each kind, nested ones after them."""
    if isinstance(value, dict):
        found = [list(value)]
        return found + [key for item in value.values() for key in keys(item)]
    return keys(value[0]) if isinstance(value, list) and value else []


def test_sections_and_keys_stay_where_readers_of_stats_json_look_for_them(tmp_path):
    masked = as_plain(describe_run(read_run(write_run(tmp_path / "masked"))))
    assert tuple(masked) == (*SECTIONS, "warnings")
    assert keys(masked["loss_by_window"]) == [
        ["first_step", "last_step", "mean", "p5", "median", "p95", "grad_norm", "tokens_per_s"]
    ]
    of_name = ["name", "num_steps", "share", "num_tokens", "first_mean", "last_mean"]
    of_name += ["last_p5", "last_p95", "last_accuracy"]
    assert keys(masked["loss_by_task"]) == [of_name]
    write_measured(tmp_path / "mixed")
    rows = [mixed_row(step) for step in range(1, 61)]
    log = write_run(
        tmp_path / "mixed",
        rows=rows,
        evals=lambda step: mixed_eval_row(step) | probe_eval_row(step),
    )
    mixed = as_plain(describe_run(read_run(log)))
    assert tuple(mixed) == (*SECTIONS, *MEASURED, "warnings")
    [window, means] = keys(mixed["loss_by_window"])
    assert window == ["first_step", "last_step", "grad_norm", "tokens_per_s", "mean_by_task"]
    assert set(means) == {row["task"] for row in rows}
    assert keys(mixed["loss_by_task"])[0] == [*of_name, "loss"]
    assert keys(mixed["pair_metrics"]) == [
        ["name", "num_queries", "num_documents", "headline", "metrics"],
        ["name", "dim", "first", "best", "best_step", "last"],
    ]
    assert list(mixed["pair_metrics"][1]) == ["name", "num_pairs", "headline", "metrics"]
    of_spectrum = ["model", "step", "layer", "name", "kind", "shape"]
    embeddings, layer, _ = mixed["spectra"]
    assert list(embeddings) == [
        *of_spectrum, "num_texts", "dim", "anisotropy", "uniformity", "effective_rank",
    ]  # fmt: skip
    assert list(layer) == [
        *of_spectrum, "effective_rank", "stable_rank", "largest_over_mean", "largest_over_median",
    ]  # fmt: skip
