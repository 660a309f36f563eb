"""A corpus whose every token is its own place, so that a text tells where it is from."""

from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models

from kl3m_embeddings.data.samples.corpus import open_corpora
from kl3m_embeddings.data.shards.token_shards import TokenShards
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.tasks.base import TextSource

DATASET_SIZE = 1_000_000
"""Token `n` of dataset `d` is `d` times this, plus `n`."""


NAMES = ("cls", "sep", "pad", "mask")
UNUSED_TOKENIZER = Tokenizer(
    backend=tokenizers.Tokenizer(models.WordLevel({name: n for n, name in enumerate(NAMES)})),
    vocab_size=4,
    fingerprint="",
    name="numbers",
    special_tokens={name: name for name in NAMES},
    prefix_ids=(0,),
    suffix_ids=(1,),
)


def numbered_shards(name, lengths, first_token=0):
    """A dataset in memory, of documents of these lengths."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return shards_of(name, starts, first_token + np.arange(starts[-1]))


def shards_of(name, starts, tokens):
    ids = [f"{name}-{number}".encode() for number in range(len(starts) - 1)]
    return TokenShards(
        name=name,
        path=Path(name),
        num_documents=len(ids),
        num_tokens=int(starts[-1]),
        tokenizer_fingerprint="",
        sha256="",
        document_starts=starts,
        shard_starts=starts[[0, -1]],
        info={},
        _shards=(tokens.astype(np.uint32),),
        _ids=np.frombuffer(b"".join(ids), dtype=np.uint8),
        _id_starts=np.cumsum([0, *map(len, ids)]),
    )


def source_of(datasets, *, max_length=16, seed=0, weights=None, num_held_out=0):
    """A source of datasets, each given by its documents' lengths or as shards."""
    shards = [
        one
        if isinstance(one, TokenShards)
        else numbered_shards(f"set{number}", one, number * DATASET_SIZE)
        for number, one in enumerate(datasets)
    ]
    corpus, _ = open_corpora(
        shards, weights, window=max_length - 2, seed=seed, num_held_out=num_held_out
    )
    return TextSource(corpus, UNUSED_TOKENIZER, max_length, seed)


def texts_of(columns):
    """The tokens of every text, by column and sample."""
    return [
        [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
        for rows, lengths in zip(columns.tokens, columns.lengths, strict=True)
    ]


def places_of(source, columns):
    """Dataset, document, first and last place in it of every numbered text, by column and sample.

    Fails where a text is not one piece of one document.
    """
    firsts, lengths = columns.tokens[:, :, 0], columns.lengths
    places = np.arange(columns.tokens.shape[2])
    expected = np.where(places < lengths[:, :, None], firsts[:, :, None] + places, 0)
    assert np.array_equal(np.where(places < lengths[:, :, None], columns.tokens, 0), expected)
    datasets, firsts = np.divmod(firsts, DATASET_SIZE)
    assert np.array_equal(datasets, columns.datasets)
    documents, starts = np.empty_like(firsts), np.empty_like(firsts)
    for number, index in enumerate(source.corpus.indices):
        here, bounds = datasets == number, index.shards.document_starts
        documents[here] = np.searchsorted(bounds, firsts[here], side="right") - 1
        starts[here] = bounds[documents[here]]
        assert (firsts[here] + lengths[here] <= bounds[documents[here] + 1]).all()
    found = np.stack([datasets, documents, firsts - starts, firsts - starts + lengths], axis=2)
    return [[tuple(text) for text in column] for column in found.tolist()]


def assert_pure(make_local_task, source, count=24):
    """A sample does not depend on the batch that it is in, nor on the task that made others."""
    whole = texts_of(make_local_task().columns(source, 5, count))
    ids = make_local_task().columns(source, 5, count).text_groups
    task = make_local_task()
    for size in (1, 7, 12):
        parts = [task.columns(source, 5 + k, min(size, count - k)) for k in range(0, count, size)]
        texts = [texts_of(part) for part in parts]
        joined = [list(chain(*column)) for column in zip(*texts, strict=True)]
        assert joined == whole
        assert np.array_equal(np.concatenate([part.text_groups for part in parts], axis=1), ids)
    assert texts_of(task.columns(source, 5 + count, count)) != whole
