"""Random numbers and permutations as pure functions of a key and an index: no state to save.

Philox maps (key, counter) to random bits, so the numbers of a row are had without those of the
rows before it. The permutation is a four-round Feistel network over the next power of four,
walked until it lands inside the range, so that element `i` of a shuffle costs the same wherever
it is.

Philox: Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405
Cycle walking: Black and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

UINT32_PER_BLOCK = 8  # one Philox counter value yields four uint64
NUM_ROUNDS = 4


def derive_key(*parts: int | str) -> int:
    """A 64-bit key from the parts, such as `(seed, "masks")`: different parts, unrelated keys."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def random_uint32(key: int, first_row: int, num_rows: int, per_row: int) -> NDArray[np.uint32]:
    """Rows `first_row` and on of an endless table with `per_row` random columns."""
    blocks_per_row = -(-per_row // UINT32_PER_BLOCK)
    generator = np.random.Philox(key=key, counter=first_row * blocks_per_row)
    words = generator.random_raw(num_rows * blocks_per_row * 4)
    return words.view(np.uint32).reshape(num_rows, blocks_per_row * UINT32_PER_BLOCK)[:, :per_row]


def random_uniform(key: int, first_row: int, num_rows: int, per_row: int) -> NDArray[np.float64]:
    """As `random_uint32`, as numbers in [0, 1)."""
    return random_uint32(key, first_row, num_rows, per_row).astype(np.float64) * 2.0**-32


def permute(index: NDArray[Any], size: int, key: int) -> NDArray[np.int64]:
    """Element `index` of a permutation of `range(size)` that `key` chooses.

    Args:
        index: int64, each in [0, size).
        size: length of the permutation, at most 2**62.
        key: any 64-bit key.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    round_keys = np.random.Philox(key=key).random_raw(NUM_ROUNDS)
    result = _feistel(index.astype(np.uint64), half_bits, round_keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half_bits, round_keys)
    return result.astype(np.int64)


def _feistel(
    values: NDArray[np.uint64], half_bits: int, round_keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right ^ round_key) & mask)
    return (left << shift) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2714064.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
