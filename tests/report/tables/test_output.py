"""Where tables go: files and the terminal."""

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from kl3m_embeddings.report.tables.output import as_text, write_statistics
from kl3m_embeddings.report.tables.run_tables import render
from tests.report.logs import (
    write_run,
)


def shown(log):
    return as_text(render(describe_run(read_run(log))))


def test_the_text_file_is_what_is_shown(tmp_path):
    log = write_run(tmp_path)
    statistics = describe_run(read_run(log))
    write_statistics(tmp_path, list(render(statistics)), statistics)
    assert (tmp_path / "stats.txt").read_text() == shown(log)
