from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.samples.packing import PackedCorpus, pack, patterns, window_lengths


@given(st.lists(st.integers(1, 20), min_size=1, max_size=200), st.integers(0, 3))
def test_every_window_has_one_row_that_it_fits(sizes, key):
    sizes = np.array(sizes)
    packed = pack(sizes, 20, key)
    assert sorted(packed.windows) == list(range(len(sizes)))
    rows = np.split(packed.windows, packed.first[1:-1])
    fills = sorted(sizes[row].sum() for row in rows)
    assert 0 < fills[0] <= fills[-1] <= 20
    assert len(rows) == 1 or fills[0] + fills[1] > 20  # no two rows would fit into one


def test_which_windows_come_together_is_drawn():
    sizes = np.tile([5, 6, 7, 9], 50)
    rows = [pack(sizes, 20, key) for key in (0, 0, 1)]
    assert np.array_equal(rows[0].windows, rows[1].windows)
    assert not np.array_equal(rows[0].windows, rows[2].windows)


def test_rows_are_nearly_full():
    sizes = np.random.default_rng(0).integers(5, 129, 20_000)
    num_rows = pack(sizes, 128, 0).num_rows
    assert sizes.sum() / (128 * num_rows) > 0.99


def test_patterns_use_up_the_histogram():
    histogram = np.array([0, 3, 0, 4, 2, 1])
    used = Counter()
    for count, pattern in patterns(histogram, 5):
        assert sum(pattern) <= 5
        used.update({size: count * number for size, number in Counter(pattern).items()})
    assert [used[size] for size in range(6)] == histogram.tolist()


def test_an_epoch_of_rows_reads_every_window_once(make_sources):
    corpus = make_sources(max_length=24)[0].corpus
    packs = PackedCorpus.build(corpus, 24, 2)
    total = sum(one.num_rows for one in packs.packs)
    rows = packs.rows(0, 4 * total)
    seen = Counter(zip(rows.spans.datasets, rows.spans.documents, rows.spans.starts, strict=True))
    for dataset, index in enumerate(corpus.indices):
        counts = [seen[key] for key in seen if key[0] == dataset]
        assert len(counts) == index.num_windows
        assert max(counts) - min(counts) <= 1
        assert len(window_lengths(index)) == index.num_windows
    later = packs.rows(7, 3)
    first, last = np.searchsorted(rows.row_of, [7, 10])
    assert np.array_equal(later.spans.starts, rows.spans.starts[first:last])
    assert np.array_equal(later.datasets, rows.datasets[7:10])
