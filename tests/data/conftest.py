import json

import pytest

from kl3m_embeddings.data.tokenizer.training import train_tokenizer

TEXT = (
    "The court shall review the order. The order is final under this section, and the court may "
    "set it aside.\n\nNotice is given to the party within thirty days of the order of the court.\n"
)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A byte-level tokenizer of 320 ids."""
    return train_tokenizer([TEXT] * 4, 320, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """What was verified is remembered in a place of the test's own."""
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def write_jsonl(tmp_path):
    """A function that writes rows to a JSONL file of the test's folder."""

    def write(rows, name="documents.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
