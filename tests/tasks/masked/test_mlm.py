import numpy as np
import pytest
import torch

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from tests.tasks.masked.windows import restored


@pytest.mark.parametrize("masking", ["token", "word", "span"])
def test_a_batch_is_the_windows_framed_and_masked(make_sources, masking):
    source = make_sources()[0]
    task = MaskedLanguageModelling(MlmOptions(probability=1.0, masking=masking))
    batch = task.batch(source, 5, 40)
    windows = source.corpus.windows(5, 40)
    tokenizer = source.tokenizer
    for row, ids in enumerate(restored(batch).tolist()):
        length = int(windows.lengths[row])
        text = windows.tokens[row, :length].tolist()
        padding = [tokenizer.pad_id] * (source.max_length - length - 2)
        assert ids == [tokenizer.cls_id, *text, tokenizer.sep_id, *padding]
        assert batch.attention_mask[row].tolist() == [1] * (length + 2) + [0] * len(padding)


def test_shapes_are_fixed_and_what_fills_them_costs_nothing(make_sources):
    source = make_sources(max_length=256)[0]
    task = MaskedLanguageModelling(MlmOptions(probability=1.0))
    batches = [task.batch(source, first, 8) for first in range(0, 160, 8)]
    shapes = {(b.input_ids.shape, b.target_positions.shape, b.target_labels.shape) for b in batches}
    assert len(shapes) == 1
    fillers = 0
    for batch in batches:
        labelled = batch.target_labels != IGNORED_LABEL
        assert batch.counts == {"mlm": int(labelled.sum())}
        assert len(batch.target_positions[labelled].unique()) == batch.counts["mlm"]
        assert not batch.target_positions[~labelled].any()
        fillers += int((~labelled).sum())
    assert fillers > 0


def test_the_log_counts_what_is_there(make_sources):
    source = make_sources()[0]
    batch = MaskedLanguageModelling(MlmOptions(probability=1.0)).batch(source, 0, 64)
    windows = source.corpus.windows(0, 64)
    info = batch.info
    for number, name in enumerate(source.corpus.names):
        rows = windows.datasets == number
        assert info.samples_by_dataset[name] == rows.sum()
        assert info.tokens_by_dataset[name] == (windows.lengths[rows] + 2).sum()
        assert len(info.documents[name]) == len(np.unique(windows.documents[rows]))
    assert sum(info.tokens_by_dataset.values()) == int(batch.attention_mask.sum())
    assert info.num_fallback == 0


def test_all_tokens_are_predicted_sooner_or_later(make_sources):
    """Epoch after epoch the same window is masked elsewhere."""
    source = make_sources()[0]
    size = sum(index.num_windows for index in source.corpus.indices)
    task = MaskedLanguageModelling(MlmOptions(probability=1.0))
    batches = [task.batch(source, epoch * size, 64) for epoch in range(2)]
    assert not torch.equal(batches[0].target_positions, batches[1].target_positions)
