"""Fewer and coarser numbers: what a vector is worth at each size, made from one encoding.

1. `dim`: the first numbers of each vector, as Matryoshka embeddings are cut
   (https://arxiv.org/abs/2205.13147); or as many at random places, the control: what training for
   the first numbers has bought shows in the difference.
2. `dtype`: int8 divides a vector by its largest number and rounds to 127 steps each way; that
   number is kept, so that nothing changes but by rounding. Binary keeps the signs, +1 or -1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from kl3m_embeddings.data.counter_random import derive_key, permute

Dtype = Literal["float32", "int8", "binary"]
DTYPES: tuple[Dtype, ...] = ("float32", "int8", "binary")
INT8_STEPS = 127


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to make vectors smaller."""

    dim: int | None = None
    """How many numbers are kept; None: all."""
    dtype: Dtype = "float32"
    control: bool = False
    """Whether they are drawn at random places."""

    @property
    def settings(self) -> dict[str, Any] | None:
        """As mteb names it in its folders; None for the vectors as they are."""
        named: dict[str, Any] = {"dim": self.dim} if self.dim else {}
        if self.dtype != "float32":
            named["dtype"] = self.dtype
        if self.control:
            named["dimensions"] = "random"
        return named or None

    def apply(self, vectors: Float32[np.ndarray, "texts size"]) -> Float32[np.ndarray, "texts dim"]:
        """The vectors in this form, as float32."""
        size = vectors.shape[1]
        if self.dim is not None and self.dim < size:
            columns = np.arange(self.dim)
            if self.control:
                columns = np.sort(permute(columns, size, derive_key(size, "dimensions")))
            vectors = vectors[:, columns]
        if self.dtype == "int8":
            largest = np.abs(vectors).max(axis=1, keepdims=True)
            steps = np.rint(vectors / np.where(largest > 0, largest, 1) * INT8_STEPS)
            rounded: np.ndarray = steps * (largest / INT8_STEPS)
            return rounded
        if self.dtype == "binary":
            return np.where(vectors > 0, np.float32(1), np.float32(-1))
        return vectors


def variants(dims: Iterable[int], dtypes: Iterable[Dtype], size: int) -> list[Variant]:
    """All sizes below `size` and the full one, in all forms, the plain vectors first."""
    forms: list[Dtype] = ["float32", *(dtype for dtype in dtypes if dtype != "float32")]
    found = [Variant(dtype=dtype) for dtype in forms]
    for dim in sorted({dim for dim in dims if dim < size}, reverse=True):
        found += [Variant(dim=dim, dtype=dtype) for dtype in forms]
        found.append(Variant(dim=dim, control=True))
    return found
