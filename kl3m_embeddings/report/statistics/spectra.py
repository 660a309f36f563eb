"""How a run used its dimensions, from spectra.jsonl."""

from collections.abc import Sequence

from kl3m_embeddings.report.read.benchmark import newest
from kl3m_embeddings.report.read.benchmark_rows import Spectrum
from kl3m_embeddings.report.statistics.steps import Statistics


def spectra_statistics(spectra: Sequence[Spectrum]) -> list[Statistics]:
    """Each spectrum of the newest steps, its singular values left out."""
    return [
        {
            "model": one.model,
            "step": one.step,
            "layer": one.layer,
            "name": one.name,
            "kind": one.kind,
            "shape": list(one.shape) if one.shape else None,
            **one.numbers,
        }
        for one in sorted(newest(spectra), key=place)
    ]


def place(one: Spectrum) -> tuple[str, int, str]:
    """Models in order, and their layers from the first to the last."""
    return one.model, -1 if one.layer is None else one.layer, one.name
