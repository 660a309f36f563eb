import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.samples.order import PERIOD, SampleOrder, period_shares

weight_lists = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6).map(tuple)


@given(weight_lists)
def test_shares_fill_the_period_and_are_proportional(weights):
    shares = period_shares(weights)
    exact = np.array(weights) / sum(weights) * PERIOD
    assert shares.sum() == PERIOD
    assert shares.min() >= 1
    assert np.abs(shares - exact).max() <= len(weights)


@settings(max_examples=20)
@given(weight_lists, st.integers(0, 2**32), st.integers(0, 2**26))
def test_proportions_are_exact_in_every_period(weights, seed, period):
    order = SampleOrder(seed=seed, sizes=[10**6] * len(weights), weights=weights)
    datasets, _ = order.locate(period * PERIOD, PERIOD)
    assert np.bincount(datasets, minlength=len(weights)).tolist() == period_shares(weights).tolist()


@settings(max_examples=20)
@given(st.integers(0, 2**45), st.integers(1, 60), st.data())
def test_random_access_equals_sequential(first, count, data):
    order = SampleOrder(seed=3, sizes=[7, 100, 31], weights=(0.2, 0.5, 0.3))
    datasets, samples = order.locate(first, count)
    offset = data.draw(st.integers(0, count - 1))
    length = data.draw(st.integers(1, count - offset))
    part_datasets, part_samples = order.locate(first + offset, length)
    assert np.array_equal(part_datasets, datasets[offset : offset + length])
    assert np.array_equal(part_samples, samples[offset : offset + length])


@pytest.mark.parametrize("num_periods", [3, 6])
def test_every_epoch_of_a_dataset_has_each_sample_once(num_periods):
    sizes, weights = [11, 500, 20_000], (1.0, 2.0, 5.0)
    order = SampleOrder(seed=1, sizes=sizes, weights=weights)
    # these periods cross the boundaries of periods and of epochs
    datasets, samples = order.locate(0, num_periods * PERIOD)
    for dataset, size in enumerate(sizes):
        stream = samples[datasets == dataset]
        epochs = stream[: len(stream) // size * size].reshape(-1, size)
        assert (np.sort(epochs, axis=1) == np.arange(size)).all()
        rest = stream[len(epochs) * size :]
        assert len(np.unique(rest)) == len(rest)
    assert len(epochs) == num_periods // 2


def test_epochs_and_datasets_are_ordered_differently():
    order = SampleOrder(seed=1, sizes=[50, 50], weights=(1.0, 1.0))
    datasets, samples = order.locate(0, 400)
    epochs = [tuple(samples[datasets == d][e * 50 : e * 50 + 50]) for d in (0, 1) for e in (0, 1)]
    assert len(set(epochs)) == 4


def test_periods_and_seeds_are_mixed_differently():
    mixes = [
        tuple(SampleOrder(seed=s, sizes=[9, 9], weights=(1.0, 1.0)).locate(p * PERIOD, 100)[0])
        for s in (0, 1)
        for p in (0, 1)
    ]
    assert len(set(mixes)) == 4


def test_a_tiny_dataset_among_large_ones_comes_in_every_period():
    order = SampleOrder(seed=0, sizes=[1, 10**9], weights=(1e-9, 1.0))
    datasets, samples = order.locate(5 * PERIOD, PERIOD)
    assert (datasets == 0).sum() == 1
    assert samples[datasets == 0].tolist() == [0]
