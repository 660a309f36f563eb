"""Tasks that compare vectors: means over the right steps."""

import numpy as np
import pytest

from kl3m_embeddings.report.plots.all_plots import draw_all
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import pair_row, values, write_run

NUM_STEPS = 200


def test_embedding_tasks(mixed_rows, mixed_statistics):
    kinds = {"ssd": {"same", "similar", "diff"}}
    tenth = NUM_STEPS // 10
    found = {entry.name: entry for entry in mixed_statistics.embedding_tasks}
    assert set(found) == {"pairs", "crop", "ssd"}
    for task, entry in found.items():
        mine = [row for row in mixed_rows if row["task"] == task]
        assert entry.num_pairs == 64 * len(mine)
        assert entry.num_clashes == len(mine)
        assert set(entry.similarity) == kinds.get(task, {"positive", "negative"})
        for end, part in (("first", mixed_rows[:tenth]), ("last", mixed_rows[-tenth:])):
            for field in ("accuracy", "temperature"):
                known = values(part, task, field)
                expected = pytest.approx(np.mean(known), rel=1e-5) if known else None
                assert getattr(entry, f"{end}_{field}") == expected
            for kind, ends in entry.similarity.items():
                known = values(part, task, f"mean_sim_{kind}")
                expected = pytest.approx(np.mean(known), rel=1e-5) if known else None
                assert getattr(ends, end) == expected


def test_a_step_may_lack_what_it_measures(tmp_path):
    rows = [pair_row(step) for step in range(1, 30)]
    rows[5] |= {"mean_sim_positive": None, "accuracy": None, "loss": None, "skipped": True}
    rows[6] = {"step": 7, "task": "pairs"}
    run = read_run(write_run(tmp_path, rows=rows))
    [entry] = describe_run(run).embedding_tasks
    assert entry.num_steps == 29
    assert entry.num_pairs == 64 * 28
    assert draw_all(run, 5, tmp_path)[1] == [
        "pair_metrics_by_step.png is not drawn: eval.jsonl has no metric of held-out pairs"
    ]
