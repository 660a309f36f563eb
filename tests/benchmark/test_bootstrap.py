"""Intervals are those of other bootstraps; the same items give the same drawings."""

import numpy as np
import pytest
from scipy import stats

from kl3m_embeddings.benchmark import bootstrap
from kl3m_embeddings.benchmark.bootstrap import NUM_SAMPLES, comparable, interval, resampled
from kl3m_embeddings.benchmark.items import Items

NONE = np.empty(0)


def mean_of(values):
    return Items("mean", np.asarray(values, dtype=float), NONE)


def pairs_of(statistic, size=60, seed=0, noise=1.0):
    generator = np.random.default_rng(seed)
    answers = generator.normal(size=size)
    values = answers + noise * generator.normal(size=size)
    return Items(statistic, values, (answers > 0).astype(float) if statistic == "ap" else answers)


def test_a_means_interval_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    low, high = interval(resampled(mean_of(values)))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize("statistic", ["mean", "spearman", "pearson", "ap"])
def test_intervals_are_scipys(statistic):
    items = pairs_of(statistic)

    def score(rows):
        answers = items.answers[rows] if statistic != "mean" else NONE
        return Items(statistic, items.values[rows], answers).score

    theirs = stats.bootstrap(
        (np.arange(len(items.values)),), score, vectorized=False, n_resamples=NUM_SAMPLES,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    ours = interval(resampled(items))
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.15 * width)
    assert ours.low < items.score < ours.high


@pytest.mark.parametrize("statistic", ["mean", "spearman", "ap"])
def test_a_model_does_not_differ_from_itself(statistic):
    first, second = (resampled(pairs_of(statistic)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert interval(first - second) == (0, 0)


@pytest.mark.parametrize("statistic", ["mean", "spearman"])
def test_what_is_hard_for_both_cancels_out(statistic):
    """The difference of two like models is surer than either score."""
    one = pairs_of(statistic)
    other = one._replace(values=one.values + 0.05 * np.random.default_rng(1).normal(size=60))
    low, high = interval(resampled(one) - resampled(other))
    own_low, own_high = interval(resampled(one))
    assert high - low < (own_high - own_low) / 3


def test_another_seed_draws_others():
    items = pairs_of("mean")
    assert not np.array_equal(resampled(items), resampled(items, seed=1))


def test_constant_items_are_certain():
    assert interval(resampled(mean_of([0.5] * 7))) == pytest.approx((0.5, 0.5))
    assert interval(resampled(mean_of([0.25]))) == (0.25, 0.25)


def test_drawings_without_a_score_do_not_count_unless_they_are_most():
    """Of two positives among many, some drawings have none, and no average precision."""
    labels = np.zeros(30)
    labels[:2] = 1
    samples = resampled(Items("ap", np.linspace(1, 0, 30), labels))
    assert np.isnan(samples).any()
    assert interval(samples) is not None
    assert interval(np.array([np.nan, np.nan, 1.0])) is None


def test_other_items_are_not_compared():
    one = pairs_of("spearman")
    assert comparable(one, one._replace(values=-one.values))
    assert not comparable(one, one._replace(statistic="pearson"))
    assert not comparable(mean_of([1, 2]), mean_of([1, 2, 3]))
    assert not comparable(one, one._replace(answers=one.answers[::-1].copy()))


def test_drawing_in_blocks_draws_the_same(monkeypatch):
    items = mean_of(np.random.default_rng(0).random(50))
    whole = resampled(items)
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 50 * 333)
    assert np.array_equal(resampled(items), whole)
