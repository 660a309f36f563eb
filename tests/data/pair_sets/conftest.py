import pytest

from kl3m_embeddings.data.pair_sets.build import build_pair_set
from tests.data.pair_sets.rows import ROWS


@pytest.fixture
def build(tokenizer, write_jsonl, tmp_path):
    """A function that builds a pair set of rows."""

    def build(rows=ROWS, **options):
        return build_pair_set("tiny", write_jsonl(rows), tokenizer, tmp_path / "out", **options)

    return build
