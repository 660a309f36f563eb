"""Vectors with fewer and coarser numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kl3m_embeddings.benchmark.variants import DTYPES, Variant, variants

VECTORS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=24),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)


def cosine(first, second):
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1)


def vectors(rows=5, size=16, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


@given(VECTORS)
def test_int8_changes_a_vector_by_rounding_alone(given_vectors):
    """Neither its angle nor its length, which dot products and distances ask for."""
    coarse = Variant(dtype="int8").apply(given_vectors)
    assert coarse.dtype == np.float32
    largest = np.abs(given_vectors).max(axis=1)
    step = largest[:, None] / 127
    assert (np.abs(coarse - given_vectors) <= step / 2 * 1.001).all()
    known = largest > 1e-3
    steps = coarse[known] / step[known]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    # an error of half a step in each number, of a vector that is at least 127 steps long
    bound = 1 - given_vectors.shape[1] / 4 / 127**2
    assert (cosine(given_vectors, coarse)[known] >= bound - 1e-4).all()


@given(VECTORS)
def test_binary_keeps_signs(given_vectors):
    signs = Variant(dtype="binary").apply(given_vectors)
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    assert ((signs > 0) == (given_vectors > 0)).all()


@given(VECTORS, st.integers(1, 30), st.booleans())
def test_dimensions_are_the_first_or_some(given_vectors, dim, control):
    few = Variant(dim=dim, control=control).apply(given_vectors)
    assert few.shape == (len(given_vectors), min(dim, given_vectors.shape[1]))
    if not control or dim >= given_vectors.shape[1]:
        np.testing.assert_array_equal(few, given_vectors[:, :dim])
    columns = {tuple(column) for column in given_vectors.T}
    assert {tuple(column) for column in few.T} <= columns


def test_random_places_are_others_each_once_and_always_the_same():
    numbered = np.tile(np.arange(64, dtype=np.float32), (2, 1))
    places = Variant(dim=8, control=True).apply(numbered)[0]
    assert len(set(places)) == 8
    assert (np.diff(places) > 0).all()
    assert not np.array_equal(places, np.arange(8))
    np.testing.assert_array_equal(Variant(dim=8, control=True).apply(numbered)[1], places)


def test_cut_first_then_coarse():
    """The largest number of all may be among those cut off."""
    one = np.array([[1.0, -2.0, 100.0]], dtype=np.float32)
    coarse = Variant(dim=2, dtype="int8").apply(one)
    np.testing.assert_allclose(coarse, [[64 * 2 / 127, -2]], rtol=1e-6)


def test_a_vector_of_zeros_stays_one():
    zeros = np.zeros((2, 4), dtype=np.float32)
    np.testing.assert_array_equal(Variant(dtype="int8").apply(zeros), zeros)


def test_plain_vectors_are_untouched():
    given_vectors = vectors()
    assert Variant().apply(given_vectors) is given_vectors


@pytest.mark.parametrize("dtypes", [(), ("int8",), DTYPES])
def test_the_plain_form_comes_first_and_every_size_has_a_control(dtypes):
    found = variants([4, 32, 8, 4, 16], dtypes, 16)
    assert found[0] == Variant()
    assert len(set(found)) == len(found)
    assert {one.dim for one in found} == {None, 8, 4}
    num_forms = len({"float32", *dtypes})
    assert len(found) == 3 * num_forms + 2
    assert [one for one in found if one.control] == [
        Variant(dim=8, control=True),
        Variant(dim=4, control=True),
    ]


def test_mteb_names_each_variant():
    named = [repr(one.settings) for one in variants([4, 8], DTYPES, 16)]
    assert len(set(named)) == len(named)
    assert variants([], [], 16)[0].settings is None
