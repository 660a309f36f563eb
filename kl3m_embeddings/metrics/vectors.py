"""Vectors compared: to length 1, and by each way that models are compared by."""

from collections.abc import Callable

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


def all_manhattan(first: Vectors, second: Vectors) -> Similarities:
    """Minus the distance of each of the first to each of the second."""
    return np.stack([-np.abs(second - one).sum(axis=1) for one in first])


def all_euclidean(first: Vectors, second: Vectors) -> Similarities:
    """Minus the distance of each of the first to each of the second.

    |x - y|^2 = |x|^2 + |y|^2 - 2 xy, in float64: in float32 the difference of near texts is lost.
    """
    one, other = first.astype(np.float64), second.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * (one @ other.T)
    distances: Similarities = np.sqrt(np.maximum(squares, 0)).astype(np.float32)
    return -distances


def can_be_compared(vectors: Vectors, similarity: str) -> bool:
    """Whether all is finite: the numbers, and by this similarity what is made of them in float32.

    Args:
        vectors: any.
        similarity: a name of SIMILARITIES.
    """
    if not np.isfinite(vectors).all():
        return False
    # of a difference of two such numbers, too, the squares add up to a finite number
    largest = np.sqrt(np.finfo(np.float32).max / vectors.shape[1]) / 2
    return similarity == "cosine" or bool(np.abs(vectors).max(initial=0) < largest)


# By which documents are ranked: the names in sentence-transformers' `similarity_fn_name`.
SIMILARITIES: dict[str, Callable[[Vectors, Vectors], Similarities]] = {
    "cosine": lambda first, second: unit_vectors(first) @ unit_vectors(second).T,
    "dot": lambda first, second: first @ second.T,
    "manhattan": all_manhattan,
    "euclidean": all_euclidean,
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
