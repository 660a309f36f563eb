"""Spectra in numbers."""

import io

from rich.console import Console

from kl3m_embeddings.report.read.benchmark_rows import read_spectrum
from kl3m_embeddings.report.statistics.spectra import spectra_statistics
from kl3m_embeddings.report.tables.spectra import means_table, spectra_tables
from tests.report.measured import spectrum_rows


def statistics(rows, **options):
    return spectra_statistics([read_spectrum(row) for row in rows], **options)


def cells(table):
    """The table's cells, row by row."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_embeddings_and_layers():
    embeddings, layers = spectra_tables(statistics(spectrum_rows()))
    assert cells(embeddings) == [["mine", "60", "64", "40.0", "0.100", "-2.00", "-"]]
    assert cells(layers) == [
        ["output.dense", layer, "64 by 256", "30.0", "9.00", "2.00", "2.50"] for layer in "01"
    ]


def test_layers_of_several_models_have_tables_of_their_own():
    rows = statistics([*spectrum_rows("b"), *spectrum_rows("a")])
    titles = [table.title.strip() for table in spectra_tables(rows)]
    assert titles == ["Embeddings", "Weights of a by layer", "Weights of b by layer"]


def test_long_tables_are_cut_and_counted():
    layers = [{**spectrum_rows()[0], "layer": layer} for layer in range(12)]
    [table] = spectra_tables(statistics(layers))
    assert (len(table.rows), table.caption) == (8, "and 4 more in stats.json")


def test_means_are_over_the_layers_that_have_a_number():
    first, second, embeddings = spectrum_rows()
    rows = [
        first | {"stable_rank": 5.0, "largest_over_mean": None},
        second | {"effective_rank": 20.0},
        embeddings | {"alignment": 0.5},
        *(row | {"step": 9} for row in (first, second)),
    ]
    table = means_table(statistics(rows, every_step=True))
    assert cells(table) == [
        ["mine", "9", "30.0", "9.00", "2.00", "-", "-", "-", "-"],
        ["mine", "60", "25.0", "7.00", "2.00", "40.0", "0.100", "-2.00", "0.500"],
    ]


def test_means_fit_into_80_characters():
    rows = [row | {"step": 1_000_000} for row in spectrum_rows("a-model-with-a-long-name" * 2)]
    console = Console(file=io.StringIO(), width=80)
    console.print(means_table(statistics(rows)))
    text = console.file.getvalue()
    assert "1,000,000" in text and "-2.00" in text and "…" not in text
    assert max(map(len, text.splitlines())) <= 80
