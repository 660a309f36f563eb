"""A small model that reads 66 tokens, and a corpus of several files."""

import json

import pytest

from tests.encoder.folder.stock_folder import write_model_of_66_tokens
from tests.tiny_model import tiny_documents


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_model_of_66_tokens(tmp_path_factory.mktemp("model"))


@pytest.fixture
def corpus(tmp_path):
    """Three files in a folder, one of them in a folder below."""
    folder = tmp_path / "corpus"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("a.jsonl", "b.csv", "more/c.jsonl")):
        rows = tiny_documents(seed=seed)[:6]
        if name.endswith(".csv"):
            lines = ["id,text", *(f"{row['id']},{json.dumps(row['text'])}" for row in rows)]
        else:
            lines = [json.dumps(row | {"title": f"T{n}", "year": n}) for n, row in enumerate(rows)]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder
