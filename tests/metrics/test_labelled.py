import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from kl3m_embeddings.metrics.labelled import (
    best_accuracy,
    best_f1,
    binary_average_precision,
    pearson,
    roc_auc,
    spearman,
)

pairs = st.lists(
    st.tuples(st.integers(-4, 4).map(lambda n: n / 4), st.integers(0, 4)), min_size=2, max_size=30
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@given(pairs)
@settings(max_examples=60)
def test_correlations_are_scipys_with_ties(pair):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        np.testing.assert_allclose(pearson(*pair), stats.pearsonr(*pair)[0], atol=1e-12)
        np.testing.assert_allclose(spearman(*pair), stats.spearmanr(*pair)[0], atol=1e-12)


def test_correlations_of_nearly_constant_values():
    """Far from zero: sums of squares would cancel."""
    first = 1e6 + np.arange(10.0)
    assert pearson(first, np.arange(10.0)) == pytest.approx(1.0)
    assert np.isnan(spearman(np.ones(4), np.arange(4)))


@given(pairs)
@settings(max_examples=60)
def test_auc_and_average_precision_are_sklearns_with_ties(pair):
    scores, labels = pair[0], pair[1] > 2
    if labels.any():
        expected = sklearn_metrics.average_precision_score(labels, scores)
        assert binary_average_precision(scores, labels) == pytest.approx(expected)
    else:
        assert np.isnan(binary_average_precision(scores, labels))
    if 0 < labels.sum() < len(labels):
        expected = sklearn_metrics.roc_auc_score(labels, scores)
        assert roc_auc(scores, labels) == pytest.approx(expected)
    else:
        assert np.isnan(roc_auc(scores, labels))


@given(pairs)
@settings(max_examples=60)
def test_the_best_threshold_beats_every_other(pair):
    scores, labels = pair[0], pair[1] > 2
    candidates = [np.inf, *np.unique(scores)]
    for best, metric in (
        (best_accuracy, sklearn_metrics.accuracy_score),
        (best_f1, lambda *both: sklearn_metrics.f1_score(*both, zero_division=0.0)),
    ):
        value, threshold = best(scores, labels)
        values = [metric(labels, scores >= candidate) for candidate in candidates]
        assert value == pytest.approx(max(values))
        assert value == pytest.approx(metric(labels, scores >= threshold))
        assert np.isfinite(threshold)


def test_thresholds_between_neighbouring_floats_part_them():
    for low in (1.0, 0.7, -0.3):
        for dtype in (np.float32, np.float64):
            scores = np.array([low, np.nextafter(dtype(low), dtype(2))], dtype)
            assert best_accuracy(scores, np.array([0, 1])).value == 1
            assert (scores >= best_accuracy(scores, np.array([0, 1])).threshold).tolist() == [0, 1]


@pytest.mark.slow
@given(pairs)
@settings(max_examples=60)
def test_thresholds_are_those_of_sentence_transformers(pair):
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    scores, labels = pair[0], (pair[1] > 2).astype(int)
    theirs = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
    assert best_accuracy(scores, labels) == pytest.approx(theirs)
    f1, _, _, threshold = BinaryClassificationEvaluator.find_best_f1_and_threshold(
        scores, labels, True
    )
    assert best_f1(scores, labels).value == pytest.approx(f1)
    if f1 > 0:  # without positives their threshold is 0, ours above the highest score
        assert best_f1(scores, labels).threshold == pytest.approx(threshold)
