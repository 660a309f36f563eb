import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl3m_embeddings.data.counter_random import (
    derive_key,
    permute,
    random_uint32,
    random_uniform,
)

keys = st.integers(0, 2**64 - 1)


@given(keys, st.integers(1, 3000))
def test_a_permutation_is_a_bijection(key, size):
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@given(keys, st.integers(1, 10**12), st.data())
def test_an_element_costs_and_is_the_same_alone(key, size, data):
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    together = permute(np.array(places), size, key)
    alone = [permute(np.array([place]), size, key)[0] for place in places]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < size)).all()


def test_a_permutation_is_near_uniform():
    size, num_keys = 40, 2000
    images = np.stack([permute(np.arange(size), size, derive_key(k)) for k in range(num_keys)])
    expected = num_keys / size
    counts = np.stack([np.bincount(images[:, place], minlength=size) for place in range(size)])
    chi_squared = ((counts - expected) ** 2 / expected).sum(axis=1) / (size - 1)
    assert chi_squared.max() < 2.0
    # neighbours do not stay neighbours, nor keep their order
    steps = np.diff(images, axis=1)
    assert abs((steps > 0).mean() - 0.5) < 0.01
    assert abs((np.abs(steps) == 1).mean() - 2 / size) < 0.01


def test_different_keys_give_different_permutations():
    assert len({tuple(permute(np.arange(20), 20, key)) for key in range(200)}) == 200


@given(keys, st.integers(0, 2**50), st.integers(1, 20), st.integers(1, 40), st.data())
def test_rows_are_the_same_wherever_the_table_is_entered(key, first, count, per_row, data):
    table = random_uint32(key, first, count, per_row)
    offset = data.draw(st.integers(0, count - 1))
    assert np.array_equal(random_uint32(key, first + offset, 1, per_row)[0], table[offset])


@pytest.mark.parametrize("per_row", [1, 7, 8, 9, 16, 128])
def test_rows_share_no_random_bits(per_row):
    """Counters of neighbouring rows must not overlap: 64 bits of one never stand in another."""
    table = random_uint32(7, 0, 500, per_row + per_row % 2)
    words = np.ascontiguousarray(table).view(np.uint64).ravel()
    assert len(np.unique(words)) == len(words)


def test_numbers_are_uniform_and_uncorrelated():
    table = random_uniform(derive_key(0, "x"), 0, 20_000, 3)
    assert ((table >= 0) & (table < 1)).all()
    assert np.allclose(table.mean(axis=0), 0.5, atol=0.01)
    assert np.allclose(table.std(axis=0), 12**-0.5, atol=0.01)
    rows = np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]
    columns = np.corrcoef(table.T) - np.eye(3)
    assert max(abs(rows), np.abs(columns).max()) < 0.03


def test_keys_tell_kinds_and_places_of_parts_apart():
    parts = [(1,), ("1",), (1, 1), (11,), ("1", "1"), (1, "a"), ("a", 1), ("1\x1fint:1",), ()]
    assert len({derive_key(*one) for one in parts}) == len(parts)
    assert 0 <= derive_key("x") < 2**64


def test_neighbouring_seeds_share_no_rows():
    tables = [random_uint32(derive_key(seed, "mask"), 0, 100, 8) for seed in range(20)]
    rows = {row.tobytes() for table in tables for row in table}
    assert len(rows) == 2000


def test_golden_numbers():
    """What a seed means must not change from one version to the next."""
    assert derive_key(0, "mask") == 7022957974744308145
    assert random_uint32(1, 2, 1, 3)[0].tolist() == [3523876871, 1753471190, 2420709595]
    assert permute(np.arange(6), 6, 3).tolist() == [4, 3, 0, 5, 2, 1]


def test_a_key_of_a_name_that_is_no_utf8():
    assert len({derive_key("a\udce9"), derive_key("a\udce8"), derive_key("a")}) == 3
