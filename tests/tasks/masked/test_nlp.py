import pytest
import torch

from kl3m_embeddings.config.tasks import NlpOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.tasks.masked.nlp import MIN_CONTEXT_TOKENS, NextLinePrediction
from tests.tasks.masked.windows import document_place, lines_of, masked_rows, restored

NUM_SAMPLES = 300


@pytest.mark.parametrize("max_length", [32, 80])
@pytest.mark.parametrize("max_line_tokens", [6, 64])
def test_the_row_ends_with_a_line_of_the_document(make_sources, max_length, max_line_tokens):
    source = make_sources(max_length=max_length)[0]
    corpus = source.corpus
    options = NlpOptions(probability=1.0, max_line_tokens=max_line_tokens)
    batch = NextLinePrediction(options).batch(source, 0, NUM_SAMPLES)
    windows = corpus.windows(0, NUM_SAMPLES)
    texts = restored(batch)
    rows = list(masked_rows(source, batch))
    assert len(rows) == NUM_SAMPLES - batch.info.num_fallback
    assert len(rows) > 0.4 * NUM_SAMPLES
    num_whole = 0
    for row, places in rows:
        length = int(batch.attention_mask[row].sum())
        assert places[-1] == length - 2  # nothing but [SEP] stands after the line
        assert places[0] - 1 >= MIN_CONTEXT_TOKENS
        assert len(places) <= max_line_tokens
        shards = corpus.indices[windows.datasets[row]].shards
        document = shards.document_tokens(int(windows.documents[row])).tolist()
        tokens = texts[row, 1 : length - 1].tolist()
        lines = dict(lines_of(source, document))
        starts = [p + places[0] - 1 for p in document_place(corpus, tokens, document)]
        wholes = [lines[start] for start in starts if start in lines]
        assert wholes  # the masked run begins where a line of the document does
        assert all(len(places) <= whole for whole in wholes)
        num_whole += len(places) in wholes
        # before the line stands all that fits
        assert len(tokens) == corpus.window or places[0] - 1 in starts
    if max_line_tokens == 64 and max_length == 80:
        assert num_whole > 0.3 * len(rows)


def test_a_line_is_cut_only_by_the_window_or_the_limit(make_sources):
    """With room enough, every masked run is exactly a line."""
    source = make_sources(max_length=600)[0]
    batch = NextLinePrediction(NlpOptions(probability=1.0, max_line_tokens=500)).batch(
        source, 0, 150
    )
    windows = source.corpus.windows(0, 150)
    for row, places in masked_rows(source, batch):
        shards = source.corpus.indices[windows.datasets[row]].shards
        document = shards.document_tokens(int(windows.documents[row])).tolist()
        if len(document) <= source.corpus.window:
            assert (places[0] - 1, len(places)) in lines_of(source, document)


def test_samples_without_a_line_fall_back_to_plain_masking(make_sources):
    source = make_sources(max_length=12)[0]
    batch = NextLinePrediction(NlpOptions(probability=1.0)).batch(source, 0, 200)
    assert 100 < batch.info.num_fallback < 200
    assert batch.counts["mlm"] == int((batch.target_labels != IGNORED_LABEL).sum()) >= 200


def test_rows_do_not_depend_on_the_batch(make_sources):
    source = make_sources(max_length=48)[0]
    task = NextLinePrediction(NlpOptions(probability=1.0))
    whole = task.batch(source, 10, 20)
    for row in range(20):
        one = task.batch(source, 10 + row, 1)
        assert torch.equal(one.input_ids[0], whole.input_ids[row])
