"""Guessing by frequency: counted and scored token by token, and as torch's cross entropy."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.evaluation.held_out_text import draw_samples
from kl3m_embeddings.evaluation.unigrams import unigram_baseline
from tests.evaluation.held_out import MLM

VOCAB_SIZE = 320


def counted(corpus, num_samples):
    """How often each token stands in the first samples, one added."""
    counts = Counter(range(VOCAB_SIZE))
    windows = corpus.windows(0, num_samples)
    for tokens, length in zip(windows.tokens.tolist(), windows.lengths.tolist(), strict=True):
        counts.update(tokens[:length])
    return np.array([counts[token] for token in range(VOCAB_SIZE)])


@pytest.mark.parametrize("num_samples", [1, 300])
def test_it_is_the_cross_entropy_of_the_counted_tokens(make_sources, num_samples):
    train, held_out = make_sources()
    evaluation = draw_samples(held_out, MLM, num_samples=10, batch_size=4)
    found = unigram_baseline(train.corpus, evaluation, VOCAB_SIZE, num_samples)
    counts = counted(train.corpus, num_samples)
    logits = torch.from_numpy(counts).double().log()
    losses, hits = [], []
    for batch in evaluation.batches:
        rows = batch.target_positions // batch.input_ids.shape[1]
        for row in range(len(batch.input_ids)):
            labels = batch.target_labels[(rows == row) & (batch.target_labels != IGNORED_LABEL)]
            of_row = F.cross_entropy(logits.expand(len(labels), -1), labels)
            losses.append(of_row.item())
            hits += (labels == counts.argmax()).tolist()
    assert found.mean_loss == pytest.approx(np.mean(losses))
    assert found.accuracy == np.mean(hits)


def test_more_text_is_guessed_better_than_by_chance(make_sources):
    train, held_out = make_sources()
    evaluation = draw_samples(held_out, MLM, num_samples=10, batch_size=4)
    found = unigram_baseline(train.corpus, evaluation, VOCAB_SIZE)
    assert found.mean_loss < np.log(VOCAB_SIZE) - 1
    assert 1 / VOCAB_SIZE < found.accuracy < 1
