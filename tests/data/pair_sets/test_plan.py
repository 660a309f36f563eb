from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.pair_sets import clashes
from kl3m_embeddings.data.pair_sets.plan import PlanOptions, distinct_choices, epoch_of, plan_epoch
from tests.data.pair_sets.in_memory import distinct_rows, pair_set


def plan(pairs, epoch=0, *, key=1, usable=None, **options):
    defaults = {"batch_size": 4, "num_negatives": 0, "max_length": 64, "window_batches": 8}
    usable = np.arange(pairs.num_rows) if usable is None else usable
    return plan_epoch(pairs, usable, epoch, PlanOptions(**{**defaults, **options}), key)


def used_texts(pairs, plan, index):
    """The texts of each row of a batch by which it may clash."""
    rows, negatives = plan.rows[index], pairs.negatives[plan.negatives[index]]
    return [
        {
            pairs.queries[row],
            *pairs.positives[pairs.positive_starts[row] : pairs.positive_starts[row + 1]],
            *negatives[number],
        }
        for number, row in enumerate(rows)
    ]


def num_clashes(pairs, plan, index):
    seen, clashes = set(), 0
    for texts in used_texts(pairs, plan, index):
        clashes += not seen.isdisjoint(texts)
        seen |= texts
    return clashes


row_lists = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.lists(st.integers(20, 40), min_size=1, max_size=3, unique=True),
        st.lists(st.integers(50, 70), min_size=2, max_size=4, unique=True),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(row_lists, st.integers(1, 5), st.integers(0, 2), st.integers(1, 3), st.data())
def test_every_epoch_has_each_row_once(rows, batch_size, num_negatives, window_batches, data):
    """Whatever clashes: the first epochs together have every row as often as there are epochs."""
    pairs = pair_set(rows, lengths=data.draw(st.lists(st.integers(1, 9), min_size=71, max_size=71)))
    options = {
        "batch_size": batch_size,
        "num_negatives": num_negatives,
        "window_batches": window_batches,
    }
    plans = [plan(pairs, epoch, **options) for epoch in range(4)]
    counts = np.zeros(len(rows), dtype=int)
    num_batches = 0
    for epoch, one in enumerate(plans, start=1):
        counts += np.bincount(one.rows.reshape(-1), minlength=len(rows))
        num_batches += len(one.rows)
        assert counts.min() == epoch
        assert 0 <= (counts - epoch).sum() < batch_size  # the next epoch's first rows
        assert counts.max() <= epoch + 1
    assert num_batches == -(-4 * len(rows) // batch_size)


@settings(max_examples=60, deadline=None)
@given(row_lists, st.integers(1, 5), st.integers(0, 2))
def test_chosen_texts_are_the_rows_own_and_clashes_are_counted(rows, batch_size, num_negatives):
    pairs = pair_set(rows)
    one = plan(pairs, batch_size=batch_size, num_negatives=num_negatives)
    for index, batch in enumerate(one.rows):
        for place, row in enumerate(batch):
            assert pairs.positives[one.positives[index, place]] in rows[row][1]
            negatives = pairs.negatives[one.negatives[index, place]]
            assert len(set(negatives)) == num_negatives
            assert set(negatives) <= set(rows[row][2])
        assert one.num_clashes[index] == num_clashes(pairs, one, index)


@pytest.mark.parametrize("num_rows", [12, 13, 64, 100])
@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_batches_of_the_stream_are_found_in_the_plans(num_rows, batch_size):
    pairs = pair_set(distinct_rows(num_rows))
    lengths = [len(plan(pairs, epoch, batch_size=batch_size).rows) for epoch in range(9)]
    expected = [(epoch, index) for epoch, length in enumerate(lengths) for index in range(length)]
    found = [epoch_of(batch, num_rows, batch_size) for batch in range(len(expected))]
    assert found == expected


def test_a_plan_is_a_pure_function_of_its_key_and_epoch():
    pairs = pair_set(distinct_rows(48, num_negatives=3))
    one, same = (plan(pairs, 5, num_negatives=2) for _ in range(2))
    for name in ("rows", "positives", "negatives", "num_clashes"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    for other in (plan(pairs, 6, num_negatives=2), plan(pairs, 5, key=2, num_negatives=2)):
        assert not np.array_equal(one.rows, other.rows)
        by_row = [
            dict(zip(p.rows.flat, map(tuple, p.negatives.reshape(-1, 2)), strict=True))
            for p in (one, other)
        ]
        assert by_row[0] != by_row[1]


def test_a_row_is_as_likely_in_one_batch_as_in_another():
    """Sorting by length leaves the distribution as it is: chi-squared over many epochs."""
    num_rows, num_epochs = 32, 600
    pairs = pair_set(distinct_rows(num_rows), lengths=np.arange(1, 2 * num_rows + 1))
    counts = np.zeros((num_rows, num_rows // 4))
    for epoch in range(num_epochs):
        one = plan(pairs, epoch, window_batches=4)
        counts[one.rows, np.arange(num_rows // 4)[:, None]] += 1
    expected = num_epochs / (num_rows // 4)
    chi_squared = ((counts - expected) ** 2 / expected).sum(axis=1)
    assert chi_squared.max() < 30  # 7 degrees of freedom: above 30 once in 10,000
    assert chi_squared.mean() == pytest.approx(7, rel=0.3)


def test_batches_hold_texts_of_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 200, 2048)
    pairs = pair_set(distinct_rows(1024), lengths=lengths)
    longest = np.minimum(lengths.reshape(-1, 2).max(axis=1), 150)
    plans = [plan(pairs, window_batches=n, batch_size=16, max_length=150) for n in (1, 16)]
    padding = [np.ptp(longest[one.rows], axis=1) for one in plans]
    assert padding[1].mean() < padding[0].mean() / 8


def test_choices_are_distinct_and_uniform():
    words = np.random.default_rng(0).integers(0, 1 << 32, (60_000, 3), dtype=np.uint32)
    counts = np.repeat([3, 4, 5], 20_000)
    chosen = distinct_choices(words, counts)
    assert (chosen < counts[:, None]).all()
    for count, num_orders in ((3, 6), (4, 24), (5, 60)):
        orders = Counter(map(tuple, chosen[counts == count].tolist()))
        assert len(orders) == num_orders
        assert all(len(set(order)) == 3 for order in orders)
        assert max(orders.values()) < 1.3 * 20_000 / num_orders


def test_unavoidable_clashes_end_and_are_counted():
    """One query in every row: each batch keeps all but one of its rows' clashes."""
    one = plan(pair_set([(0, [row + 1], []) for row in range(1000)]), batch_size=8)
    assert sorted(one.rows.flat) == list(range(1000))
    assert one.num_clashes.tolist() == [7] * 125


def test_the_unavoidable_does_not_keep_the_rest_from_being_mended(monkeypatch):
    monkeypatch.setattr(clashes, "MAX_TOTAL_TRIES", 200)
    rows = [(0 if row % 2 else 1 + row % 100, [row + 500], []) for row in range(1000)]
    pairs = pair_set(rows)
    one = plan(pairs, batch_size=8)
    queries = pairs.queries[one.rows]
    assert all(len(set(batch) - {0}) == (batch > 0).sum() for batch in queries)
    assert one.num_clashes.sum() == 500 - 125


def test_a_query_that_fits_once_in_each_batch_never_clashes():
    rows = [(0 if row % 8 == 0 else row + 2000, [row + 5000], []) for row in range(800)]
    one = plan(pair_set(rows), batch_size=8, window_batches=1)
    assert not one.num_clashes.any()


@pytest.mark.parametrize("num_queries", [40, 100])
def test_many_rows_of_few_queries_are_separated(num_queries):
    rows = [(row % num_queries, [row + 1000], []) for row in range(2000)]
    assert not plan(pair_set(rows), batch_size=20).num_clashes.any()


def test_a_positive_that_was_not_chosen_counts():
    """The other positives of a row would be wrong as negatives of it."""
    rows = [(row, [100, 101 + row], []) for row in range(4)]
    rows += [(row, [200 + row], []) for row in range(4, 16)]
    one = plan(pair_set(rows), batch_size=4)
    assert not one.num_clashes.any()
    assert all((batch < 4).sum() == 1 for batch in one.rows)


def test_texts_that_differ_by_their_prefix_only_clash():
    """Row n's query, id n, is the positive of row n + 1, id n + 101, under another prefix."""
    rows = [(row, [100 + row], []) for row in range(100)]
    originals = np.arange(200)
    originals[101:] = np.arange(99)
    plain, prefixed = pair_set(rows), pair_set(rows, originals=originals)
    batches = plan(plain, batch_size=20, window_batches=1).rows
    assert any(np.diff(np.sort(batch)).min() == 1 for batch in batches)
    one = plan(prefixed, batch_size=20, window_batches=1)
    assert not one.num_clashes.any()
    assert all(np.diff(np.sort(batch)).min() > 1 for batch in one.rows)
    assert (
        plan(
            pair_set([(0, [1], []), (2, [3], [])], originals=[0, 1, 2, 0]), batch_size=2
        ).num_clashes
        == 1
    )
