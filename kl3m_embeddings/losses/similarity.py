"""Similarities of embeddings, in fp32 or better: higher is more alike.

    dot: sum over d of x_d y_d                 cosine: dot(x / |x|, y / |y|)
    euclidean: -|x - y|                        manhattan: -sum over d of |x_d - y_d|

At a temperature of 0.05, bf16's error of 0.004 in a cosine would be 0.08 in a logit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def in_fp32(embeddings: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same in fp32; fp64 stays."""
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def normalised(embeddings: Float[Tensor, "*texts dim"]) -> Float[Tensor, "*texts dim"]:
    """Vectors of unit length; zero stays zero."""
    return F.normalize(in_fp32(embeddings), dim=-1)


def dot(first: Float[Tensor, "... dim"], second: Float[Tensor, "... dim"]) -> Float[Tensor, "..."]:
    """The product of each text of `first` with the text of the same index in `second`."""
    return (in_fp32(first) * in_fp32(second)).sum(dim=-1)


def all_dots(
    first: Float[Tensor, "rows dim"], second: Float[Tensor, "texts dim"]
) -> Float[Tensor, "rows texts"]:
    """The product of every text of `first` with every text of `second`."""
    with torch.autocast(first.device.type, enabled=False):
        return in_fp32(first) @ in_fp32(second).T


@dataclass(frozen=True)
class Similarity:
    """One way to compare vectors.

    Attributes:
        prepared: what is done to each vector first.
        of_pairs: of prepared vectors: each text of the first with the text of the same index.
        of_all: of prepared vectors: every text of the first with every text of the second.
        is_distance: whether it is minus a distance, and never above 0.
    """

    prepared: Callable[[Tensor], Tensor]
    of_pairs: Callable[[Tensor, Tensor], Tensor]
    of_all: Callable[[Tensor, Tensor], Tensor]
    is_distance: bool = False

    def __call__(
        self, first: Float[Tensor, "... dim"], second: Float[Tensor, "... dim"]
    ) -> Float[Tensor, "..."]:
        """How alike each text of `first` is to the text of the same index in `second`."""
        return self.of_pairs(self.prepared(first), self.prepared(second))

    def distance(self, similarities: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What it is minus of; of cosines, and of products of unit vectors, 1 - s, in 0..2."""
        return -similarities if self.is_distance else 1 - similarities


def _minus_distance(order: int) -> Similarity:
    """Minus the sum of powers of the differences; equal texts have distance 0, and gradient 0."""

    def of_pairs(first: Tensor, second: Tensor) -> Tensor:
        distances: Tensor = torch.linalg.vector_norm(first - second, ord=order, dim=-1)
        return -distances

    def of_all(first: Tensor, second: Tensor) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return -torch.cdist(first, second, p=float(order))

    return Similarity(in_fp32, of_pairs, of_all, is_distance=True)


SIMILARITIES: dict[str, Similarity] = {
    "cosine": Similarity(normalised, dot, all_dots),
    "dot": Similarity(in_fp32, dot, all_dots),
    "euclidean": _minus_distance(2),
    "manhattan": _minus_distance(1),
}
cosine = SIMILARITIES["cosine"]
