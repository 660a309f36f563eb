from types import SimpleNamespace

import pytest

from kl3m_embeddings.commands.quickstart_results import TrainedModel, bm25_metrics
from kl3m_embeddings.data.pair_build import build_pair_set
from kl3m_embeddings.train.evaluate_pairs import PairEvaluation

ROWS = (
    '{"query": "court order", "positive": "the court shall review any order"}\n'
    '{"query": "?", "positive": "a party within thirty days"}\n'
    '{"query": "xyzzy", "positive": "findings not supported by evidence"}\n'
)


def test_a_query_without_words_finds_nothing(tiny_tokenizer, tmp_path):
    """Nor does one whose words are in no document; both count."""
    (tmp_path / "rows.jsonl").write_text(ROWS)
    pairs = build_pair_set("x", tmp_path / "rows.jsonl", tiny_tokenizer, tmp_path).pair_set
    judgements = PairEvaluation.build("x", pairs).judgements
    trained = object.__new__(TrainedModel)  # its weights are not needed
    trained.model = SimpleNamespace(tokenizer=tiny_tokenizer)
    metrics = bm25_metrics(trained, pairs, judgements)
    assert metrics["recall@10"] == 1  # of three documents
    # two of three queries score all documents alike: their positives' ranks are those of chance
    ranks = [1, *judgements.relevant[judgements.query_ids > 0] + 1]
    assert metrics["mrr@10"] == pytest.approx(sum(1 / rank for rank in ranks) / 3)
