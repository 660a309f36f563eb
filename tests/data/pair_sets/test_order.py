from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.pair_sets.order import PairOrder, _period
from kl3m_embeddings.data.samples.order import PERIOD, period_shares
from kl3m_embeddings.errors import ConfigError, DataError
from tests.data.pair_sets.in_memory import distinct_rows, pair_set

SETS = [pair_set(distinct_rows(size, num_negatives=2)) for size in (30, 101, 57)]


def order_of(sets=SETS, weights=None, **options):
    defaults = {"seed": 3, "batch_size": 8, "max_length": 32, "num_negatives": 1}
    return PairOrder.build(sets, weights, **{**defaults, **options})


def arrays(batch):
    return [
        batch.set_index,
        *map(np.ndarray.tolist, (batch.rows, batch.positives, batch.negatives)),
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3 * PERIOD), min_size=1, max_size=5))
def test_random_access_equals_sequential(numbers):
    sequential = order_of()
    for number in numbers:
        assert arrays(order_of().batch(number)) == arrays(sequential.batch(number))


@given(st.integers(0, 1000), st.sampled_from([1, 2, 4, 8]))
def test_the_parts_of_ranks_make_the_whole(number, world):
    order = order_of()
    whole = order.batch(number)
    size = 8 // world
    parts = [order.batch(number, slice(rank * size, (rank + 1) * size)) for rank in range(world)]
    assert {part.set_index for part in parts} == {whole.set_index}
    for name in ("rows", "queries", "positives", "negatives"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(joined, getattr(whole, name))


def test_every_set_has_each_row_once_an_epoch():
    order = order_of(weights=(1.0, 2.0, 5.0))
    seen = [[], [], []]
    for number in range(400):
        batch = order.batch(number)
        seen[batch.set_index].append(batch.rows)
    for pairs, batches in zip(SETS, seen, strict=True):
        num_epochs = len(batches) * 8 // pairs.num_rows - 1
        counts = np.bincount(np.concatenate(batches[: -(-num_epochs * pairs.num_rows // 8)]))
        assert (counts >= num_epochs).all()
        assert (counts - num_epochs).sum() < 8


def test_weights_are_kept_at_any_time():
    weights = (1.0, 2.0, 5.0)
    order = order_of(weights=weights)
    sources = np.array([order.batch(number).set_index for number in range(1000)])
    for end in (8, 100, 555, 1000):
        counts = np.bincount(sources[:end], minlength=3)
        assert np.abs(counts - end * np.array(weights) / 8).max() <= 2
    assert sources[:100].tolist() != sources[100:200].tolist()  # but not by turns


def test_a_period_has_exactly_its_shares():
    weights = (1.0, 1e-9, 3.0)
    sources, numbers = _period(3, weights, 2)
    shares = period_shares(weights)
    assert np.bincount(sources).tolist() == shares.tolist()
    for source, share in enumerate(shares.tolist()):  # no gap between periods
        assert np.array_equal(numbers[sources == source], np.arange(2 * share, 3 * share))


def test_seeds_and_sets_have_orders_of_their_own():
    order, other = (order_of(SETS[:1] * 2, seed=seed) for seed in (3, 4))
    plans = [order.plan(0, 0), order.plan(1, 0), other.plan(0, 0)]
    assert len({plan.rows.tobytes() for plan in plans}) == 3


def test_weights_are_by_rows_unless_given():
    assert order_of().weights == (30.0, 101.0, 57.0)


@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, 2.0, 0.0), (1.0, 2.0, -1.0), (1.0, 2.0, float("nan")), (1.0,) * 4]
)
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ConfigError, match="weights"):
        order_of(weights=weights)


def test_rows_with_too_few_negatives_are_left_out_and_told():
    rows = distinct_rows(40, num_negatives=2)
    rows[5] = (*rows[5][:2], rows[5][2][:1])
    rows[9] = (*rows[9][:2], [])
    pairs = pair_set(rows, name="some")
    assert order_of([pairs], num_negatives=0).left_out() == []
    order = order_of([pairs], num_negatives=2)
    assert order.left_out() == [
        "some: 2 of 40 rows are left out: they have fewer than 2 negatives (first some.jsonl:6)"
    ]
    rows = np.concatenate([order.batch(number).rows for number in range(19)])
    assert np.array_equal(np.bincount(rows)[:40] == 0, np.isin(np.arange(40), [5, 9]))


def test_fewer_rows_than_a_batch_are_an_error():
    pairs = pair_set([(0, [1], [2])] * 9, name="some")
    with pytest.raises(DataError, match=r"^some: 9 rows, a batch takes 10; lower batch_size$"):
        order_of([pairs], batch_size=10)
    with pytest.raises(DataError, match=r"0 rows with 4 negatives of 9 \(too few: some\.jsonl:1\)"):
        order_of([pairs], num_negatives=4)


def test_a_batch_has_what_belongs_to_its_rows():
    plain = pair_set([(3 * row, [3 * row + 1], [3 * row + 2]) for row in range(20)])
    scores = np.arange(20, dtype=np.float32)
    pairs = replace(plain, labels=scores, positive_scores=scores + 1, negative_scores=scores + 2)
    batch = order_of([pairs]).batch(3)
    assert batch.queries.tolist() == (3 * batch.rows).tolist()
    assert batch.positives.tolist() == (3 * batch.rows + 1).tolist()
    assert batch.negatives.tolist() == (3 * batch.rows + 2)[:, None].tolist()
    assert batch.labels.tolist() == batch.rows.tolist()
    assert batch.positive_scores.tolist() == (batch.rows + 1).tolist()
    assert batch.negative_scores.tolist() == (batch.rows + 2)[:, None].tolist()
    assert order_of([plain]).batch(3).labels is None


def test_a_batch_of_one():
    rows = [(0, [1], []), (0, [1], []), (1, [2], [0])]  # equal rows cannot clash
    order = order_of([pair_set(rows)], batch_size=1, num_negatives=0)
    batches = [order.batch(number) for number in range(6)]
    assert sorted(batch.rows.tolist() for batch in batches[:3]) == [[0], [1], [2]]
    assert all(batch.num_clashes == 0 for batch in batches)
    assert {batch.negatives.shape for batch in batches} == {(1, 0)}


def test_clashes_are_told():
    order = order_of([pair_set([(0, [row + 1], []) for row in range(16)])], num_negatives=0)
    assert order.batch(0).num_clashes == order.batch(0, slice(0, 1)).num_clashes == 7


@pytest.mark.parametrize(
    ("rows", "size", "num_told"),
    [
        ([(0, [number + 1], []) for number in range(8)], 4, 2),  # one query
        ([(number + 1, [0], []) for number in range(8)], 4, 2),  # one positive
        ([(0, [number + 1], []) for number in range(7)] + [(9, [8], [])], 4, 1),
        ([(0, [1], []), (0, [2], []), (3, [4], []), (3, [5], [])], 2, 0),  # they are parted
        (distinct_rows(8), 4, 0),
        (distinct_rows(8), 1, 8),  # a batch of one row
        ([(number, [number + 1], []) for number in range(4)], 4, 0),  # a chain: the ends differ
    ],
)
def test_batches_without_a_negative_are_told_once(rows, size, num_told):
    order = order_of([pair_set(rows, name="legal")], batch_size=size, num_negatives=0)
    lines = order.without_negatives()
    assert len(lines) == bool(num_told)
    assert all(f"legal: in {num_told} of the {len(rows) // size} batches" in one for one in lines)


def test_rows_with_negatives_or_labels_learn_whatever_they_share():
    rows = [(0, [number + 1], [20]) for number in range(8)]
    assert order_of([pair_set(rows)], batch_size=4, num_negatives=1).without_negatives() == []
    labelled = replace(pair_set(rows), labels=np.arange(8, dtype=np.float32))
    assert order_of([labelled], batch_size=4, num_negatives=0).without_negatives() == []
