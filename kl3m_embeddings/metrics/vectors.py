"""Vectors compared: to length 1, and by each way that models are compared by."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float32


def unit_vectors(
    embeddings: Float32[np.ndarray, "texts size"],
) -> Float32[np.ndarray, "texts size"]:
    """Embeddings brought to length 1; those of length 0 stay so.

    They are divided by their largest number before they are squared: no finite vector overflows.
    """
    largest = np.maximum(embeddings.max(axis=1), -embeddings.min(axis=1))[:, None]
    vectors = embeddings / np.where(largest > 0, largest, np.float32(1))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
    return vectors


Vectors = Float32[np.ndarray, "_ size"]


Similarities = Float32[np.ndarray, "queries documents"]


def all_distances(first: Vectors, second: Vectors, order: int) -> Similarities:
    """Minus the distance of each of the first to each of the second; the sum of powers `order`."""
    return np.stack([-np.linalg.norm(second - one, ord=order, axis=1) for one in first])


# By which documents are ranked: the names in sentence-transformers' `similarity_fn_name`.
SIMILARITIES: dict[str, Callable[[Vectors, Vectors], Similarities]] = {
    "cosine": lambda first, second: unit_vectors(first) @ unit_vectors(second).T,
    "dot": lambda first, second: first @ second.T,
    "manhattan": partial(all_distances, order=1),
    "euclidean": partial(all_distances, order=2),
}


def cosine(first: Vectors, second: Vectors) -> Float32[np.ndarray, " pairs"]:
    """Of the vectors of each pair."""
    return dot(unit_vectors(first), unit_vectors(second))


def dot(first: Vectors, second: Vectors) -> Float32[np.ndarray, " pairs"]:
    """Of the vectors of each pair."""
    products: Float32[np.ndarray, " pairs"] = (first * second).sum(axis=1)
    return products


def manhattan(first: Vectors, second: Vectors) -> Float32[np.ndarray, " pairs"]:
    """Minus the distance of each pair."""
    distances: Float32[np.ndarray, " pairs"] = -np.abs(first - second).sum(axis=1)
    return distances


def euclidean(first: Vectors, second: Vectors) -> Float32[np.ndarray, " pairs"]:
    """Minus the distance of each pair."""
    distances: Float32[np.ndarray, " pairs"] = -np.linalg.norm(first - second, axis=1)
    return distances


# How alike two vectors are: the names in mteb's scores.
ALIKENESS: dict[str, Callable[[Vectors, Vectors], Float32[np.ndarray, " pairs"]]] = {
    "cosine": cosine,
    "dot": dot,
    "manhattan": manhattan,
    "euclidean": euclidean,
}
