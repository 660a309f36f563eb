import pytest

from kl3m_embeddings.config.tasks import MhmOptions
from kl3m_embeddings.tasks.masked.mhm import MaskedHeadingModelling
from tests.tasks.masked.windows import document_place, lines_of, masked_rows, restored

NUM_SAMPLES = 300


@pytest.mark.parametrize("max_length", [48, 120])
@pytest.mark.parametrize("max_heading_tokens", [9, 24])
def test_the_row_begins_with_a_heading_and_its_body_follows(
    make_sources, max_length, max_heading_tokens
):
    source = make_sources(max_length=max_length)[0]
    options = MhmOptions(probability=1.0, max_heading_tokens=max_heading_tokens)
    batch = MaskedHeadingModelling(options).batch(source, 0, NUM_SAMPLES)
    windows = source.corpus.windows(0, NUM_SAMPLES)
    texts = restored(batch)
    rows = list(masked_rows(source, batch))
    assert len(rows) == NUM_SAMPLES - batch.info.num_fallback
    assert len(rows) > 0.2 * NUM_SAMPLES
    for row, places in rows:
        assert places[0] == 1
        assert len(places) <= max_heading_tokens
        shards = source.corpus.indices[windows.datasets[row]].shards
        document = shards.document_tokens(int(windows.documents[row])).tolist()
        tokens = texts[row, 1 : int(batch.attention_mask[row].sum()) - 1].tolist()
        lines = lines_of(source, document)
        for start in document_place(source.corpus, tokens, document):
            number = [line[0] for line in lines].index(start)
            assert lines[number][1] == len(places)  # the whole line
            assert lines[number + 1][1] > len(places)  # a longer one follows
            assert len(tokens) == min(source.corpus.window, len(document) - start)


def test_what_is_masked_reads_as_a_heading(make_sources):
    source = make_sources(max_length=64)[0]
    batch = MaskedHeadingModelling(MhmOptions(probability=1.0)).batch(source, 0, NUM_SAMPLES)
    texts = restored(batch)
    decode = source.tokenizer.backend.decode
    headings = [decode(texts[row, places].tolist()) for row, places in masked_rows(source, batch)]
    assert sum(heading.istitle() for heading in headings) > 0.7 * len(headings)
