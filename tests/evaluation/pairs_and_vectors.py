"""Held-out pairs of every kind, in memory, and vectors of their texts."""

from dataclasses import replace

import numpy as np

from tests.data.pair_sets.in_memory import pair_set

SIZE = 16


def signs(num_texts, seed=0):
    """Numbers of -1 and 1: at sizes 16 and 4, cosines are exact, and many are equal."""
    draw = np.random.default_rng(seed)
    return draw.choice(np.array([-1, 1], np.float32), (num_texts, SIZE))


def normals(num_texts, seed=0):
    return np.random.default_rng(seed).standard_normal((num_texts, SIZE), dtype=np.float32)


def embed(vectors):
    return lambda ids: vectors[ids]


def retrieval_set(seed=0):
    """Queries with several rows and positives, some of which are queries or positives of others."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(40):
        query, *others = draw.permutation(60)[:6].tolist()
        rows.append((query % 25, [one for one in others[:3] if one != query % 25], others[3:]))
    return pair_set(rows)


def labelled_set(labels, seed=0):
    draw = np.random.default_rng(seed)
    rows = [(q, [d], []) for q, d in draw.integers(0, 30, (len(labels), 2)).tolist()]
    return replace(pair_set(rows), labels=np.array(labels, np.float32))


def graded(num_pairs=60):
    return labelled_set(np.random.default_rng(1).integers(0, 6, num_pairs) / 5)


def binary(num_pairs=60):
    return labelled_set(np.random.default_rng(2).random(num_pairs) < 0.4)


def judged(pairs):
    """The texts that are relevant to each query: those of all its rows."""
    relevant = {}
    for row, query in enumerate(pairs.queries.tolist()):
        found = pairs.positives[slice(*pairs.positive_starts[row : row + 2])]
        relevant.setdefault(query, set()).update(found.tolist())
    return relevant


def cosine(first, second):
    first, second = first.astype(float), second.astype(float)
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)
