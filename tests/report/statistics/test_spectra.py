"""Spectra as statistics: of the newest steps, in order, with what their rows have."""

from kl3m_embeddings.report.read.benchmark_rows import read_spectrum
from kl3m_embeddings.report.statistics.spectra import spectra_statistics
from tests.report.measured import spectrum_rows


def statistics(rows, **options):
    return spectra_statistics([read_spectrum(row) for row in rows], **options)


def test_models_in_order_and_their_layers_after_the_embeddings():
    rows = statistics([*reversed(spectrum_rows("b")), *reversed(spectrum_rows("a"))])
    assert [(row.model, row.layer) for row in rows] == [
        (model, layer) for model in "ab" for layer in (None, 0, 1)
    ]
    embeddings, layer, _ = rows[:3]
    assert (embeddings.num_texts, embeddings.dim, embeddings.uniformity) == (100, 64, -2.0)
    assert (embeddings.alignment, embeddings.stable_rank, embeddings.shape) == (None, None, None)
    assert (layer.kind, layer.shape, layer.stable_rank) == ("output.dense", [64, 256], 9.0)
    assert layer.largest_over_median == 2.5


def test_the_newest_step_counts_unless_all_do():
    rows = [row | {"step": step} for step in (20, 3, 100) for row in spectrum_rows()]
    assert {row.step for row in statistics(rows)} == {100}
    steps = [row.step for row in statistics(rows, every_step=True)]
    assert steps == [3] * 3 + [20] * 3 + [100] * 3
