import numpy as np
import pytest
import torch

from kl3m_embeddings.config.tasks import NspOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.tasks.masked.nsp import NextSegmentPrediction
from tests.tasks.masked.windows import restored

NUM_PAIRS = 400


def pairs_of(source, variant="next_segment", first=0, count=NUM_PAIRS):
    """The batch, and its two segments as lists of ids."""
    task = NextSegmentPrediction(NspOptions(probability=1.0, variant=variant))
    batch = task.batch(source, first, count)
    segments = []
    for ids, mask in zip(restored(batch).tolist(), batch.attention_mask.tolist(), strict=True):
        inside = ids[: sum(mask)]
        assert inside[0] == source.tokenizer.cls_id
        assert inside[-1] == source.tokenizer.sep_id
        assert set(ids[sum(mask) :]) <= {source.tokenizer.pad_id}
        middle = inside.index(source.tokenizer.sep_id)
        segments.append((inside[1:middle], inside[middle + 1 : -1]))
    return batch, segments


def contains(text, part):
    return any(text[i : i + len(part)] == part for i in range(len(text) - len(part) + 1))


@pytest.fixture(scope="module")
def texts(make_sources):
    """Every document's tokens, by dataset and number."""
    indices = make_sources()[0].corpus.indices
    return {
        (number, document): index.shards.document_tokens(document).tolist()
        for number, index in enumerate(indices)
        for document in range(index.shards.num_documents)
    }


@pytest.mark.parametrize("max_length", [16, 48])
def test_labels_tell_whether_the_second_follows_the_first(make_sources, texts, max_length):
    source = make_sources(max_length=max_length)[0]
    batch, segments = pairs_of(source)
    windows = source.corpus.windows(0, NUM_PAIRS)
    for row, (first, second) in enumerate(segments):
        place = (int(windows.datasets[row]), int(windows.documents[row]))
        label = float(batch.segment_labels[row])
        assert contains(texts[place], first)
        if label == 1:
            assert contains(texts[place], first + second)
        elif label == 0:
            assert second
            others = [text for other, text in texts.items() if other != place]
            assert any(contains(text, second) for text in others)


def test_half_of_the_pairs_follow(make_sources):
    batch, _ = pairs_of(make_sources(max_length=48)[0], count=4000)
    known = batch.segment_labels[~batch.segment_labels.isnan()]
    assert len(known) > 3800
    assert float(known.mean()) == pytest.approx(0.5, abs=0.03)
    assert batch.counts["nsp"] == len(known)
    assert batch.info.num_fallback == 4000 - len(known)


def test_the_second_segment_alone_gives_nothing_away(make_sources):
    """True and false second segments are drawn alike: neither length nor beginning tells."""
    source = make_sources(max_length=24)[0]
    batch, segments = pairs_of(source, count=4000)
    labels = batch.segment_labels.numpy()
    lengths = np.array([len(second) for _, second in segments])
    at_start = [is_document_start(source, second) for _, second in segments]
    for values, tolerance in ((lengths, 0.35), (np.array(at_start, dtype=float), 0.02)):
        means = [values[labels == label].mean() for label in (0, 1)]
        assert means[0] == pytest.approx(means[1], abs=tolerance)


def is_document_start(source, ids):
    """Headings begin with a capital and no space: only a document's first token looks so."""
    return bool(ids) and source.tokenizer.backend.decode(ids[:1])[:1].isupper()


def test_sentence_order_swaps_half_of_the_pairs(make_sources, texts):
    source = make_sources(max_length=48)[0]
    batch, segments = pairs_of(source, "sentence_order")
    windows = source.corpus.windows(0, NUM_PAIRS)
    for row, (first, second) in enumerate(segments):
        text = texts[int(windows.datasets[row]), int(windows.documents[row])]
        label = float(batch.segment_labels[row])
        if not np.isnan(label):
            assert contains(text, first + second if label == 1 else second + first)
    assert float(batch.segment_labels.nanmean()) == pytest.approx(0.5, abs=0.1)


def test_a_pair_of_the_same_document_is_not_labelled(make_sources):
    source = make_sources(max_length=16)[0]
    batch, _ = pairs_of(source, count=4000)
    windows = source.corpus.windows(0, 4000)
    partners = source.corpus.windows(1 << 40, 4000)
    same = (windows.datasets == partners.datasets) & (windows.documents == partners.documents)
    unlabelled = batch.segment_labels.isnan().numpy()
    assert unlabelled.any()
    assert (same | (windows.lengths < 2))[unlabelled].all()


@pytest.mark.parametrize("variant", ["next_segment", "sentence_order"])
def test_only_ordinary_tokens_are_masked_within_the_fixed_shape(make_sources, variant):
    source = make_sources()[0]
    batch, _ = pairs_of(source, variant)
    labelled = batch.target_labels != IGNORED_LABEL
    special = torch.from_numpy(source.tokenizer.special_ids())
    assert not special[batch.target_labels[labelled]].any()
    assert batch.counts["mlm"] == int(labelled.sum())
