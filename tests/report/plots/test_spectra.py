"""Spectra: the right models, kinds and layers."""

from kl3m_embeddings.report.plots.spectra import own_first
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.spectra import spectra_tables
from tests.report.logs import write_run
from tests.report.measured import spectrum_rows, write_measured


def test_the_layers_drawn_are_the_runs_own_and_the_tables_name_the_models(tmp_path):
    folder = tmp_path / "law"
    write_measured(folder, spectra=[*spectrum_rows("a-model"), *spectrum_rows("law")])
    run = read_run(write_run(folder))
    rows = own_first(run, run.benchmark.spectra)
    assert [(row.model, row.layer) for row in rows] == [
        ("law", 0), ("law", 1), ("law", None), ("a-model", None),
    ]  # fmt: skip
    titles = [table.title.strip() for table in spectra_tables(describe_run(run).spectra)]
    assert titles == ["Embeddings", "Weights of a-model by layer", "Weights of law by layer"]
    write_measured(folder, spectra=spectrum_rows("law"))
    titles = [
        table.title.strip() for table in spectra_tables(describe_run(read_run(folder)).spectra)
    ]
    assert titles == ["Embeddings", "Weights by layer"]
