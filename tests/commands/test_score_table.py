"""Scores in a terminal of 80 characters: whole, whatever the models are called."""

import io
from dataclasses import replace

from rich.console import Console

from kl3m_embeddings.benchmark.scores import Score
from kl3m_embeddings.commands.score_table import score_tables


def row(step, score, **changes):
    fields = {
        "model": "a-model-with-a-long-name", "revision": "r", "step": step, "baseline": False,
        "task": "one-task", "type": "STS", "split": "test", "subset": "default",
        "metric": "cosine_spearman", "score": score, "dim": 8, "full_dim": 8, "dtype": "float32",
        "control": False, "low": score - 0.25, "high": score + 0.05,
    }  # fmt: skip
    return Score(**fields | changes)


def shown(rows):
    console = Console(file=io.StringIO(), width=80)
    for table in score_tables(rows):
        console.print(table)
    return console.file.getvalue()


def test_numbers_and_intervals_stay_whole():
    text = shown([row(1000 * number, number / 10) for number in range(1, 8)])
    for number in range(1, 8):
        assert f" {number / 10:.4f} " in text
        assert f"step {number},000" in text
    for interval in ("-.150-.150", "-.050-.250", ".050-.350", ".150-.450", ".450-.750"):
        assert f" {interval} " in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_has_no_score_has_an_empty_cell():
    failed = replace(row(2, 0.0), score=None, low=None, high=None, error="no data")
    sized = row(1, 0.7, dim=4)
    lost = replace(row(1, 0.0), dim=1, score=None, low=None, high=None, error="not a number")
    text = shown([row(1, 0.5, low=None, high=None), failed, sized, lost])
    assert "0.5000" in text and "0.7000" not in text and "None" not in text
    assert "step 2" in text and "0.0000" not in text
