"""How a model uses its dimensions: singular values of its weights, and the shape of its vectors.

Of a matrix with singular values s: effective rank, exp of the entropy of s / sum(s) (Roy and
Vetterli 2007, https://ieeexplore.ieee.org/document/7098875); stable rank, sum(s^2) / max(s)^2
(https://arxiv.org/abs/1501.01571).

Of the vectors of texts, at unit length: anisotropy, the mean cosine of two of them (Ethayarajh
2019, https://arxiv.org/abs/1909.00512); uniformity, log of the mean of exp(-2 d^2) over their
distances d, and alignment, the mean d^2 of texts that belong together (Wang and Isola 2020,
https://arxiv.org/abs/2005.10242).
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.metrics.vectors import unit_vectors

NUM_SHOWN = 64
LAYER = re.compile(r"[._]layers?\.(\d+)\.")


def weight_spectra(encoder: MaskedEncoder) -> Iterator[dict[str, Any]]:
    """A row for every matrix inside a layer, in the order of the layers."""
    for name, weight in encoder.network.state_dict().items():
        found = LAYER.search(f".{name}")
        if found is None or weight.ndim != 2 or not weight.is_floating_point():
            continue
        yield {
            "kind": "layer",
            "layer": int(found[1]),
            "name": name,
            "shape": list(weight.shape),
            **matrix_spectrum(weight),
        }


def matrix_spectrum(matrix: Tensor) -> dict[str, Any]:
    """What its singular values say; NaN and infinite weights have no spectrum."""
    if not matrix.isfinite().all():
        names = ("effective_rank", "stable_rank", "largest_over_mean", "largest_over_median")
        return {"singular_values": [], **dict.fromkeys(names)}
    values = torch.linalg.svdvals(matrix.detach().cpu().double()).numpy()
    total = values.sum()
    shares = values[values > 0] / total if total > 0 else np.ones(1)
    largest = values[0]
    return {
        "singular_values": picked(values),
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
        "stable_rank": float((values**2).sum() / largest**2) if largest > 0 else 0.0,
        "largest_over_mean": float(largest / values.mean()) if largest > 0 else None,
        "largest_over_median": float(largest / m) if (m := np.median(values)) > 0 else None,
    }


def picked(values: Any) -> list[float]:  # noqa: ANN401 - numpy's float64
    """At most NUM_SHOWN of the values, evenly, the first and the last among them."""
    indices = np.unique(np.linspace(0, len(values) - 1, min(NUM_SHOWN, len(values))).round())
    return [float(f"{values[int(index)]:.6g}") for index in indices]


def embedding_shape(
    vectors: Float32[np.ndarray, "texts dim"],
    pairs: tuple[Float32[np.ndarray, "pairs dim"], Float32[np.ndarray, "pairs dim"]] | None = None,
) -> dict[str, Any]:
    """What the vectors of different texts say, and those of texts that belong together.

    Args:
        vectors: of at least two texts; each pair of them is looked at.
        pairs: of texts that belong together.
    """
    unit = unit_vectors(vectors).astype(np.float64)
    num_texts = len(unit)
    cosines = (unit @ unit.T)[np.triu_indices(num_texts, k=1)]
    spectrum = matrix_spectrum(torch.from_numpy(unit - unit.mean(axis=0)))
    alignment = None
    if pairs is not None and len(pairs[0]):
        first, second = (unit_vectors(side).astype(np.float64) for side in pairs)
        alignment = float(((first - second) ** 2).sum(axis=1).mean())
    return {
        "kind": "embeddings",
        "num_texts": num_texts,
        "dim": unit.shape[1],
        "anisotropy": float(cosines.mean()),
        # unit vectors: d^2 = 2 - 2 cos
        "uniformity": float(np.log(np.exp(-4 * (1 - cosines)).mean())),
        "alignment": alignment,
        "effective_rank": spectrum["effective_rank"],
        "singular_values": spectrum["singular_values"],
    }
