from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.encoder.embedding_head import DenseSettings, EmbeddingHead
from kl3m_embeddings.encoder.encode import batches_by_length, encode_ids, padded
from kl3m_embeddings.encoder.folder.load import build_encoder
from tests.encoder.tiny import PAD_ID, tiny_config

TEXTS = [[1, 7, 2], [1, 2], [1, *range(10, 30), 2], [1, 9, 8, 2], [1, 7, 2]]


@pytest.fixture(scope="module")
def encoder():
    return build_encoder(tiny_config(), seed=1)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 120))
def test_batches_have_each_row_once_and_stay_within_the_budget(lengths, budget):
    batches = list(batches_by_length(lengths, budget))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        size = max(max(lengths[row] for row in rows), 1) * len(rows)
        assert size <= budget or len(rows) == 1
    longest = [max(lengths[row] for row in rows) for rows in batches]
    assert longest == sorted(longest, reverse=True)
    for rows, following in pairwise(batches):  # none could take one more
        assert (len(rows) + 1) * max(lengths[rows[0]], 1) > budget
        assert min(lengths[row] for row in rows) >= lengths[following[0]]


def test_padding_is_on_the_right_and_masked():
    ids, mask = padded([[5, 6], [], [7, 8, 9]], 3)
    assert ids.tolist() == [[5, 6, 3], [3, 3, 3], [7, 8, 9]]
    assert mask.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert ids.dtype == mask.dtype == torch.int64


@pytest.mark.parametrize("max_batch_tokens", [1, 9, 8192])
def test_vectors_are_those_of_each_text_alone_in_the_order_given(encoder, max_batch_tokens):
    found = encode_ids(encoder, TEXTS, pad_id=PAD_ID, max_batch_tokens=max_batch_tokens)
    for vector, text in zip(found, TEXTS, strict=True):
        ids = torch.tensor([text])
        with torch.no_grad():
            mean = encoder.hidden_states(ids, torch.ones_like(ids))[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_they_are_cut_first_and_normalised_after(encoder):
    whole = encode_ids(encoder, TEXTS, pad_id=PAD_ID, normalise=False)
    cut = encode_ids(encoder, TEXTS, pad_id=PAD_ID, num_dims=8)
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)
    assert encode_ids(encoder, TEXTS, pad_id=PAD_ID, num_dims=99).shape == (5, 32)


def test_a_head_takes_the_place_of_the_pooling(encoder):
    head = EmbeddingHead(
        32, pooling="cls", dense=[DenseSettings(in_features=32, out_features=6)], normalise=False
    ).eval()
    found = encode_ids(encoder, TEXTS, pad_id=PAD_ID, head=head, normalise=False)
    firsts = encode_ids(encoder, TEXTS, pad_id=PAD_ID, pooling="cls", normalise=False)
    layer = head.dense[0].linear
    expected = np.tanh(firsts @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dropout_is_off_and_progress_is_told():
    config = tiny_config(hidden_dropout_prob=0.5)
    encoder = build_encoder(config, seed=1).train()
    told = []
    first = encode_ids(encoder, TEXTS, pad_id=PAD_ID, max_batch_tokens=25, on_texts=told.append)
    assert np.array_equal(encode_ids(encoder, TEXTS, pad_id=PAD_ID, max_batch_tokens=25), first)
    assert told == [1, 4]


def test_no_texts_have_no_vectors(encoder):
    assert encode_ids(encoder, [], pad_id=PAD_ID).shape == (0, 32)
