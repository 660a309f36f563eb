"""Random numbers and permutations as pure functions of a key and an index: no state to save.

Philox maps (key, counter) to random bits, so the numbers of a row are had without those of the
rows before it.

A shuffle of a list needs the whole list. Here element i of a permutation of 0..size-1 is computed
alone, in constant time:

1. A Feistel network is a bijection of 2k-bit numbers whatever its rounds compute: (left, right)
   becomes (right, left xor mix(right xor round key)), and that can be undone. Four rounds suffice
   for numbers that are to look shuffled.
2. The next power of four may be larger than size, at most four times. Where a result lies outside,
   the network is applied to it again, until one lies inside (cycle walking). A bijection moves
   along cycles, and from an element inside a cycle comes back to one inside; two that start apart
   end apart. So what is left is a bijection of the range itself.

Philox: Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405
Cycle walking: Black and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9
"""

import hashlib

import numpy as np
from jaxtyping import Float64, Int64, UInt32, UInt64

UINT32_PER_BLOCK = 8  # one Philox counter value yields a block of four uint64
NUM_ROUNDS = 4


def derive_key(*parts: int | str) -> int:
    """A 64-bit key from the parts, such as `(seed, "masks")`: different parts, unrelated keys."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(
        hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )


def random_uint32(
    key: int, first_row: int, num_rows: int, per_row: int
) -> UInt32[np.ndarray, "{num_rows} {per_row}"]:
    """Rows `first_row` and on of an endless table with `per_row` random columns.

    A row takes whole blocks, so that it begins with a counter of its own: with 10 columns, row r is
    the blocks 2 r and 2 r + 1, and six of its sixteen numbers are not used.
    """
    blocks_per_row = -(-per_row // UINT32_PER_BLOCK)
    generator = np.random.Philox(key=key, counter=first_row * blocks_per_row)
    words = generator.random_raw(num_rows * blocks_per_row * 4)
    return words.view(np.uint32).reshape(num_rows, blocks_per_row * UINT32_PER_BLOCK)[:, :per_row]


def random_uniform(
    key: int, first_row: int, num_rows: int, per_row: int
) -> Float64[np.ndarray, "{num_rows} {per_row}"]:
    """As `random_uint32`, as numbers in [0, 1)."""
    return random_uint32(key, first_row, num_rows, per_row).astype(np.float64) * 2.0**-32


def permute(
    index: Int64[np.ndarray, " indices"], size: int, key: int
) -> Int64[np.ndarray, " indices"]:
    """Element `index` of a permutation of `range(size)` that `key` chooses.

    Args:
        index: each in [0, size).
        size: length of the permutation, at most 2**62.
        key: any 64-bit key.

    With size 5 and key 1 the network permutes 0..15; it takes 0 to 2, and 1 to 9, 9 to 7, 7 to 8, 8
    to 4: the permutation begins with 2, 4.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)  # the network's range is 4**half_bits
    round_keys = np.random.Philox(key=key).random_raw(NUM_ROUNDS)
    result = _feistel(index.astype(np.uint64), half_bits, round_keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half_bits, round_keys)
    return result.astype(np.int64)


def _feistel(
    values: UInt64[np.ndarray, "..."], half_bits: int, round_keys: UInt64[np.ndarray, "..."]
) -> UInt64[np.ndarray, "..."]:
    """The bijection of 0..4**half_bits - 1 that the round keys choose."""
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right ^ round_key) & mask)
    return (left << shift) | right


def _mix(values: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """The finaliser of SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2714064.2660195)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)  # a new array by now: the caller's stays
    return values
