import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.tasks.base import (
    Task,
    TextSource,
    assemble,
    framed,
)
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from tests.tasks.numbered import UNUSED_TOKENIZER, source_of

CLS, SEP, PAD = UNUSED_TOKENIZER.cls_id, UNUSED_TOKENIZER.sep_id, UNUSED_TOKENIZER.pad_id


@given(st.lists(st.lists(st.integers(10, 99), max_size=6), min_size=1, max_size=5), st.data())
def test_a_row_is_framed_and_padded(texts, data):
    width = data.draw(st.integers(max(map(len, texts)), 8))
    row_length = data.draw(st.integers(width + 2, 12))
    tokens = np.full((len(texts), width), 7)  # beyond a text's length stands anything
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    ids, mask = framed(UNUSED_TOKENIZER, tokens, np.array([len(one) for one in texts]), row_length)
    for row, text in enumerate(texts):
        inside = [CLS, *text, SEP]
        padding = row_length - len(inside)
        assert ids[row].tolist() == inside + [PAD] * padding
        assert mask[row].tolist() == [1] * len(inside) + [0] * padding


def assembled(labels, **options):
    source = source_of([[5, 5], [9]], max_length=6)
    windows = source.corpus.windows(0, len(labels))
    ids, mask = framed(UNUSED_TOKENIZER, windows.tokens, windows.lengths, 6)
    arrays = {"input_ids": ids, "attention_mask": mask, "labels": np.array(labels)}
    return assemble(source, windows, task="x", targets_per_sample=2, **arrays, **options), windows


NONE = [IGNORED_LABEL] * 6


def test_targets_have_a_fixed_shape_whatever_their_number():
    labels = [[*NONE[:2], 8, *NONE[:3]], NONE, [IGNORED_LABEL, 5, 6, *NONE[:3]]]
    batch, _ = assembled(labels)
    assert batch.target_positions.tolist() == [2, 13, 14, 0, 0, 0]
    assert batch.target_labels.tolist() == [8, 5, 6, *NONE[:3]]
    assert batch.counts == {"mlm": 3}
    assert batch.input_ids.dtype == batch.target_labels.dtype == torch.int64
    with pytest.raises(AssertionError):
        assembled([[1] * 6] * 3)


def test_the_log_counts_samples_and_tokens_by_dataset():
    batch, windows = assembled([NONE] * 4, num_fallback=2)
    info = batch.info
    counts = np.bincount(windows.datasets, minlength=2)
    tokens = np.bincount(windows.datasets, windows.lengths + 2, minlength=2)
    assert info.samples_by_dataset == {f"set{n}": counts[n] for n in (0, 1) if counts[n]}
    assert info.tokens_by_dataset == {f"set{n}": tokens[n] for n in (0, 1) if counts[n]}
    assert info.num_fallback == 2
    batch, _ = assembled([NONE] * 4, row_datasets=np.array([1, 1, 1, 1]))
    assert batch.info.samples_by_dataset == {"set1": 4}


def test_tasks_are_known_by_their_methods():
    from kl3m_embeddings.config.tasks import MlmOptions

    assert isinstance(MaskedLanguageModelling(MlmOptions(probability=1.0)), Task)
    assert not isinstance(object(), Task)


def test_a_source_knows_each_token_by_the_tokenizer(make_sources, tiny_tokenizer):
    source = make_sources()[0]
    assert isinstance(source, TextSource)
    special = set(np.flatnonzero(tiny_tokenizer.special_ids()).tolist())
    assert set(source.ordinary_ids.tolist()) == set(range(tiny_tokenizer.vocab_size)) - special
    decode = tiny_tokenizer.backend.decode
    for token in source.ordinary_ids.tolist():
        assert source.newline_ids[token] == ("\n" in decode([token]))
