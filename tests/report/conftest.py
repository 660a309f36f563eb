"""Two runs, read once: one of masked tasks, and one that mixes tasks of several kinds."""

import pytest

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import log_row, mixed_eval_row, mixed_row, pair_row, write_run


@pytest.fixture(scope="session")
def masked_rows():
    rows = [log_row(step) for step in range(1, 151)]
    for step in (40, 41, 99):
        rows[step - 1] |= {"loss": None, "skipped": True, "grad_norm": None}
    return rows


@pytest.fixture(scope="session")
def masked_statistics(masked_rows, tmp_path_factory):
    return describe_run(
        read_run(write_run(tmp_path_factory.mktemp("run"), rows=masked_rows)), window=20
    )


NUM_STEPS = 200


@pytest.fixture(scope="session")
def mixed_rows():
    rows = [mixed_row(step) for step in range(1, NUM_STEPS + 1)]
    for step in (40, 41, 99):
        rows[step - 1] |= {"loss": None, "skipped": True}
    for index in (NUM_STEPS // 10 - 1, NUM_STEPS // 10):  # where the first and the last tenth end
        rows[index] = pair_row(index + 1)
        rows[-index - 1] = pair_row(NUM_STEPS - index)
    return rows


@pytest.fixture(scope="session")
def mixed_run(mixed_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "mixed"
    return read_run(write_run(folder, NUM_STEPS, evals=mixed_eval_row, rows=mixed_rows))


@pytest.fixture(scope="session")
def mixed_statistics(mixed_run):
    return describe_run(mixed_run, window=20)
