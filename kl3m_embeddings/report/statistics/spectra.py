"""How a run used its dimensions, from spectra.jsonl."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kl3m_embeddings.report.read.benchmark import newest
from kl3m_embeddings.report.read.benchmark_rows import Spectrum
from kl3m_embeddings.report.statistics.plain import LEFT_OUT


@dataclass(frozen=True, kw_only=True)
class SpectrumStatistics:
    """The spectrum of a layer's weights or, without a `layer`, of the embeddings of a sample.

    `effective_rank` is exp of the singular values' entropy, `stable_rank` the sum of their squares
    over the largest square, `largest_over_mean` and `largest_over_median` the largest value over
    the mean and the median one. `anisotropy` is the mean cosine of different texts; `uniformity`
    and `alignment` are those of https://arxiv.org/abs/2005.10242, lower being better.
    """

    model: str
    step: int | None
    layer: int | None
    name: str
    kind: str
    """What all layers call these weights."""
    shape: list[int] | None
    """Rows and columns of the weights."""
    num_texts: float | None = field(default=None, metadata=LEFT_OUT)
    dim: float | None = field(default=None, metadata=LEFT_OUT)
    anisotropy: float | None = field(default=None, metadata=LEFT_OUT)
    uniformity: float | None = field(default=None, metadata=LEFT_OUT)
    alignment: float | None = field(default=None, metadata=LEFT_OUT)
    effective_rank: float | None = field(default=None, metadata=LEFT_OUT)
    stable_rank: float | None = field(default=None, metadata=LEFT_OUT)
    largest_over_mean: float | None = field(default=None, metadata=LEFT_OUT)
    largest_over_median: float | None = field(default=None, metadata=LEFT_OUT)


def spectra_statistics(
    spectra: Sequence[Spectrum], *, every_step: bool = False
) -> list[SpectrumStatistics]:
    """Each spectrum of the newest steps, or of all, its singular values left out."""
    return [
        SpectrumStatistics(
            model=spectrum.model,
            step=spectrum.step,
            layer=spectrum.layer,
            name=spectrum.name,
            kind=spectrum.kind,
            shape=list(spectrum.shape) if spectrum.shape else None,
            **spectrum.numbers,
        )
        for spectrum in sorted(spectra if every_step else newest(spectra), key=model_and_layer)
    ]


def model_and_layer(spectrum: Spectrum) -> tuple[str, int, int, str]:
    """Models in order, their steps, and their layers from the first to the last."""
    step, layer = (-1 if value is None else value for value in (spectrum.step, spectrum.layer))
    return spectrum.model, step, layer, spectrum.name
