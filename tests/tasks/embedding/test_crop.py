from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.config.tasks import CropOptions
from kl3m_embeddings.tasks.embedding.crop import Crop
from tests.tasks.numbered import (
    assert_pure,
    numbered_shards,
    places_of,
    shards_of,
    source_of,
    texts_of,
)


def crop(max_length=16, **options):
    return Crop(CropOptions(probability=1.0, **options), max_length)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=8),
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(1, 20),
    st.none() | st.integers(2, 60),
    st.integers(0, 10**6),
)
def test_spans_are_parts_of_a_passage_of_the_samples_document(
    lengths, max_length, seq_len, min_tokens, passage_tokens, first
):
    source = source_of([lengths], max_length=max_length)
    task = crop(max_length, seq_len=seq_len, min_tokens=min_tokens, passage_tokens=passage_tokens)
    columns = task.columns(source, first, 16)
    windows = source.corpus.locate(first, 16)
    num_equal = 0
    for row, (one, other) in enumerate(zip(*places_of(source, columns), strict=True)):
        document = int(windows.documents[row])
        assert one[:2] == other[:2] == (0, document)
        passage = min(passage_tokens or lengths[document], lengths[document])
        assert max(one[3], other[3]) - min(one[2], other[2]) <= passage
        longest = max(min(seq_len - 2, passage // 2), 1)
        for _, _, start, end in (one, other):
            assert min(min_tokens, longest) <= end - start <= longest
        num_equal += one == other
    assert columns.num_fallback == num_equal


def test_a_document_of_one_token_is_its_own_pair_and_counted():
    columns = crop().columns(source_of([[1, 1, 1]]), 0, 9)
    assert texts_of(columns)[0] == texts_of(columns)[1]
    assert columns.num_fallback == 9


def test_a_sample_does_not_depend_on_its_batch():
    assert_pure(crop, source_of([[1, 40, 99, 7], [60, 3]]))


def test_seeds_and_columns_have_draws_of_their_own():
    columns = [crop(64).columns(source_of([[99] * 9], seed=seed), 0, 99) for seed in (0, 1)]
    assert texts_of(columns[0])[0] != texts_of(columns[1])[0]
    lengths = columns[0].lengths - columns[0].lengths.mean(axis=1, keepdims=True)
    assert abs((lengths[0] * lengths[1]).mean()) < 0.3 * lengths.var()


def test_every_length_and_every_place_is_as_likely():
    source = source_of([[200] * 100], max_length=32)
    task = crop(32, min_tokens=11, passage_tokens=40)
    spans = list(chain(*places_of(source, task.columns(source, 0, 4000))))
    lengths = np.bincount([end - start for _, _, start, end in spans])
    assert len(lengths) == 21  # half of a passage
    assert lengths[:11].sum() == 0
    assert lengths[11:] == pytest.approx(800, rel=0.15)
    covered = np.zeros(200)
    for _, _, start, end in spans:
        covered[start:end] += 1
    assert covered[20:180] == pytest.approx(covered[20:180].mean(), rel=0.35)
    assert covered.min() > 0


def test_spans_lie_anywhere_if_there_is_no_passage():
    source = source_of([[5000]])
    for tokens, farthest in ((None, 4900), (100, 100)):
        one, other = places_of(source, crop(passage_tokens=tokens).columns(source, 0, 500))
        spread = [max(a[3], b[3]) - min(a[2], b[2]) for a, b in zip(one, other, strict=True)]
        assert 0.8 * farthest < max(spread) <= farthest


def test_held_out_documents_never_appear():
    source = source_of([[30] * 40], num_held_out=2)
    counts = np.diff(source.corpus.indices[0].first_windows)
    held_out = set(np.flatnonzero(counts == 0).tolist())
    assert len(held_out) == 2
    seen = {place[1] for place in chain(*places_of(source, crop().columns(source, 0, 2000)))}
    assert seen == set(range(40)) - held_out


def test_spans_of_one_document_or_of_equal_ones_have_one_id():
    first = numbered_shards("first", [100, 5])
    tokens = np.concatenate([np.arange(900, 907), np.arange(100), np.arange(100, 105)])
    equal = shards_of("second", np.array([0, 7, 107, 112]), tokens)
    source = source_of([first, equal])
    columns = crop().columns(source, 0, 300)
    windows = source.corpus.locate(0, 300)
    names = [["long", "short"], ["other", "long", "short"]]
    ids = {}
    for row in range(300):
        name = names[windows.datasets[row]][windows.documents[row]]
        ids.setdefault(name, set()).update(columns.text_groups[:, row].tolist())
    assert [len(ids[name]) for name in ("long", "short", "other")] == [1, 1, 1]
    assert len(set.union(*ids.values())) == 3


def test_the_log_names_what_was_read():
    source = source_of([[30] * 5, [4]])
    columns = crop().columns(source, 0, 50)
    assert columns.documents["set1"] == ["set1-0"]
    assert set(columns.documents["set0"]) == {f"set0-{number}" for number in range(5)}
    expected = source.corpus.locate(0, 50).datasets
    assert np.array_equal(columns.datasets, [expected, expected])
    assert columns.dataset_names == ["set0", "set1"]


def test_a_batch_of_one_and_its_loss(make_sources):
    source = make_sources()[0]
    task = crop(32, loss={"temperature": 0.25, "symmetric": True}, min_tokens=4)
    assert (task.loss.temperature, task.loss.symmetric) == (0.25, True)
    batch = task.batch(source, 3, 1)
    assert batch.counts == {"pairs": 1}
    assert batch.input_ids.shape[0] == 2
    assert batch.info.task == "crop"
    tokens = task.columns(source, 3, 1)
    for row, text in enumerate(texts_of(tokens)):
        ids = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
        assert ids == [source.tokenizer.cls_id, *text[0], source.tokenizer.sep_id]
