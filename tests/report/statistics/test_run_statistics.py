"""All sections of a run together."""

import json

from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.plain import as_plain
from kl3m_embeddings.report.statistics.run_statistics import default_window, describe_run
from tests.report.logs import write_run


def test_everything_is_strict_json_even_for_one_field(tmp_path):
    for name, line in enumerate(
        ['{"step": 0}', '{"step": 3, "loss": 1e999, "task": "\\u001b[1m"}']
    ):
        log = write_run(tmp_path / str(name), rows=[line], evals=False, starts=False)
        text = json.dumps(as_plain(describe_run(read_run(log))), allow_nan=False)
        assert "\\u001b" not in text


def test_the_window_grows_with_the_run():
    assert [default_window(n) for n in (0, 1, 39, 40, 2888, 10**7)] == [1, 1, 1, 2, 100, 1000]
