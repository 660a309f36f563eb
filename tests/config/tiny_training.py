"""The least that training.json can be."""

from pathlib import Path

PATH = Path("models/x/training.json")


TINY = {"tokenizer": "tokenizers/x", "optimizer": {"total_steps": 10}}


def changed(**fields):
    return {**TINY, **fields}
