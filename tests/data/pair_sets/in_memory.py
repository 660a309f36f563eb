"""Pair sets in memory, for tests of their order."""

from pathlib import Path

import numpy as np

from kl3m_embeddings.data.pair_sets.pair_set import PairSet
from kl3m_embeddings.data.shards.token_shards import TokenShards


def pair_set(rows, lengths=None, name="memory", originals=None):
    """A set of rows `(query, [positives], [negatives])` of text ids.

    `lengths` and `originals` are by text id; all texts are of one token and differ without them.
    """
    num_texts = 1 + max(max([query, *found, *wrong]) for query, found, wrong in rows)
    lengths = np.ones(num_texts, dtype=np.int64) if lengths is None else np.asarray(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    texts = TokenShards(
        name=name,
        path=Path(name),
        num_documents=len(lengths),
        num_tokens=int(starts[-1]),
        tokenizer_fingerprint="",
        sha256="",
        document_starts=starts,
        shard_starts=starts[[0, -1]],
        info={},
        _shards=(np.zeros(starts[-1], dtype=np.uint16),),
        _ids=np.zeros(0),
        _id_starts=np.zeros(0),
    )
    positives, positive_starts = _flat([found for _, found, _ in rows])
    negatives, negative_starts = _flat([wrong for _, _, wrong in rows])
    return PairSet(
        name=name,
        path=Path(name),
        originals=np.arange(len(lengths)) if originals is None else np.asarray(originals),
        queries=np.array([query for query, _, _ in rows]),
        positives=positives,
        positive_starts=positive_starts,
        positive_scores=None,
        negatives=negatives,
        negative_starts=negative_starts,
        negative_scores=None,
        labels=None,
        lines=np.arange(len(rows)) + 1,
        texts=texts,
        sha256="",
        info={"files_read": [{"name": f"{name}.jsonl", "num_rows": len(rows)}]},
    )


def distinct_rows(num_rows, num_negatives=0):
    """Rows of which no two have a text in common."""
    size = 2 + num_negatives
    texts = np.arange(num_rows * size).reshape(num_rows, size).tolist()
    return [(row[0], row[1:2], row[2:]) for row in texts]


def _flat(lists):
    starts = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return np.array([text for one in lists for text in one], dtype=np.int64), starts
