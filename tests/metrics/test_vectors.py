import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.preprocessing import normalize

from kl3m_embeddings.metrics.vectors import (
    ALIKENESS,
    SIMILARITIES,
    can_be_compared,
    unit_vectors,
)

SCIPYS = {
    "cosine": lambda first, second: 1 - cdist(first, second, "cosine"),
    "dot": lambda first, second: first @ second.T,
    "manhattan": lambda first, second: -cdist(first, second, "cityblock"),
    "euclidean": lambda first, second: -cdist(first, second, "euclidean"),
}


def random(num_texts, seed):
    return np.random.default_rng(seed).standard_normal((num_texts, 6), dtype=np.float32)


@pytest.mark.parametrize("name", SCIPYS)
def test_every_way_to_compare_is_scipys(name):
    first, second = random(4, 0), random(5, 1)
    expected = SCIPYS[name](first.astype(float), second.astype(float))
    np.testing.assert_allclose(SIMILARITIES[name](first, second), expected, rtol=1e-4, atol=1e-6)
    pairs = ALIKENESS[name](first, second[:4])
    np.testing.assert_allclose(pairs, np.diag(expected), rtol=1e-4, atol=1e-6)


def test_all_ways_are_known_to_both_tables():
    assert SIMILARITIES.keys() == ALIKENESS.keys() == SCIPYS.keys()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_unit_vectors_are_sklearns_whatever_their_length(scale):
    """Squares of these would overflow, or vanish, in float32."""
    vectors = random(5, 2)
    found = unit_vectors(vectors * np.float32(scale))
    np.testing.assert_allclose(found, normalize(vectors.astype(float)), rtol=1e-6)
    assert found.dtype == np.float32


def test_a_vector_of_length_0_stays_so_and_the_given_ones_are_not_changed():
    vectors = np.array([[0, 0], [3, 4]], np.float32)
    kept = vectors.copy()
    assert unit_vectors(vectors).tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert np.array_equal(vectors, kept)


def test_the_distance_of_near_vectors_is_not_lost():
    """Their squares are 10 orders of magnitude larger."""
    vectors = random(5, 3) * 100
    near = vectors + np.float32(1e-3) * np.array([[1, 0, 0, 0, 0, 0]], np.float32)
    for name in ("euclidean", "manhattan"):
        expected = ALIKENESS[name](vectors, near)
        assert (expected < 0).all()
        np.testing.assert_allclose(np.diag(SIMILARITIES[name](vectors, near)), expected, rtol=1e-3)
        assert np.diag(SIMILARITIES[name](vectors, vectors)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", SCIPYS)
def test_what_can_be_compared_gives_finite_numbers(name):
    far = np.array([[1e38, -1e38], [-1e38, 1e38]], np.float32)
    assert can_be_compared(far, name) == (name == "cosine")
    assert not can_be_compared(np.array([[np.nan, 1]], np.float32), name)
    largest = np.full((2, 2), np.sqrt(np.finfo(np.float32).max / 2) / 2.01, np.float32)
    largest[1] *= -1
    assert can_be_compared(largest, name)
    assert np.isfinite(SIMILARITIES[name](largest, largest)).all()
    assert np.isfinite(ALIKENESS[name](largest, largest[::-1])).all()
