"""Runs that mix tasks of several kinds: no number and no curve is one of all of them."""

import math

import numpy as np
import pytest
from matplotlib.text import Text  # noqa: TID251

from kl3m_embeddings.report.plots.all_plots import PLOTS, draw_all
from kl3m_embeddings.report.plots.parts import listed
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.run import read_run
from kl3m_embeddings.report.statistics.losses import MixedLossWindow, steps_by_task
from kl3m_embeddings.report.statistics.run_statistics import describe_run
from tests.report.logs import log_row, mixed_eval_row, mixed_row, pair_row, write_lines, write_run
from tests.report.measured import score_rows, spectrum_rows, write_measured

NUM_STEPS = 200
MEASURED = {"tasks_by_step", "quality_by_dim", "spectra"}  # by the benchmark, if at all
TASKS = ["mlm", "pairs", "nsp", "crop", "ssd"]


@pytest.fixture(scope="module")
def rows():
    rows = [mixed_row(step) for step in range(1, NUM_STEPS + 1)]
    for step in (40, 41, 99):
        rows[step - 1] |= {"loss": None, "skipped": True}
    for place in (NUM_STEPS // 10 - 1, NUM_STEPS // 10):  # where the first and the last tenth end
        rows[place] = pair_row(place + 1)
        rows[-place - 1] = pair_row(NUM_STEPS - place)
    return rows


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "mixed"
    return read_run(write_run(folder, NUM_STEPS, evals=mixed_eval_row, rows=rows))


@pytest.fixture(scope="module")
def statistics(run):
    return describe_run(run, window=20)


def values(rows, task, key):
    return [row[key] for row in rows if row["task"] == task and row.get(key) is not None]


def test_the_tasks_of_a_run(run, rows, tmp_path):
    assert set(run.tasks) == set(TASKS)
    assert run.embedding_tasks == [task for task in run.tasks if task in ("pairs", "crop", "ssd")]
    assert run.mixes_losses
    masked = read_run(write_run(tmp_path / "masked"))
    assert (masked.tasks, masked.embedding_tasks) == (["mlm", "nsp"], [])
    assert not masked.mixes_losses
    alone = write_run(tmp_path / "pairs", rows=[pair_row(step) for step in range(9)])
    assert read_run(alone).embedding_tasks == ["pairs"]
    assert not read_run(alone).mixes_losses


def test_no_loss_is_one_of_all_tasks(statistics):
    assert {key: value for key, value in vars(statistics.loss).items() if value} == {"window": 20}
    assert {type(window) for window in statistics.loss_by_window} == {MixedLossWindow}


def test_losses_of_each_task(rows, statistics):
    for entry in statistics.loss_by_task:
        losses = values(rows, entry.name, "loss")
        window = round(20 * entry.num_steps / NUM_STEPS)
        assert entry.num_steps == len([row for row in rows if row["task"] == entry.name])
        assert entry.loss.window == window
        assert (entry.loss.first, entry.loss.last) == (losses[0], losses[-1])
        assert entry.loss.last_average == pytest.approx(np.mean(losses[-window:]))


def test_windows_have_the_mean_of_each_task(rows, statistics):
    for place, window in enumerate(statistics.loss_by_window):
        mine = rows[20 * place : 20 * place + 20]
        assert set(window.mean_by_task) == set(TASKS)
        for task, mean in window.mean_by_task.items():
            losses = values(mine, task, "loss")
            assert mean == (pytest.approx(np.mean(losses)) if losses else None)


def test_dimensions_are_those_of_masked_tasks(rows, statistics):
    masked = [row for row in rows if row["task"] in ("mlm", "nsp")]
    for entry in statistics.loss_by_reduced_dim:
        mine = [row for row in masked if row["reduced_dim"] == entry.name]
        assert entry.num_steps == len(mine)
        assert entry.share == pytest.approx(len(mine) / len(masked))


def test_embedding_tasks(rows, statistics):
    kinds = {"ssd": {"same", "similar", "diff"}}
    tenth = NUM_STEPS // 10
    found = {entry.name: entry for entry in statistics.embedding_tasks}
    assert set(found) == {"pairs", "crop", "ssd"}
    for task, entry in found.items():
        mine = [row for row in rows if row["task"] == task]
        assert entry.num_pairs == 64 * len(mine)
        assert entry.num_clashes == len(mine)
        assert set(entry.similarity) == kinds.get(task, {"positive", "negative"})
        for end, part in (("first", rows[:tenth]), ("last", rows[-tenth:])):
            for field in ("accuracy", "temperature"):
                known = values(part, task, field)
                expected = pytest.approx(np.mean(known), rel=1e-5) if known else None
                assert getattr(entry, f"{end}_{field}") == expected
            for kind, ends in entry.similarity.items():
                known = values(part, task, f"mean_sim_{kind}")
                expected = pytest.approx(np.mean(known), rel=1e-5) if known else None
                assert getattr(ends, end) == expected


def test_averages_of_all_tasks_span_the_same_stretch(run):
    for one in steps_by_task(run, 20):
        assert one.window == round(20 * one.steps.height / NUM_STEPS)
    assert all(one.window == 1 for one in steps_by_task(run, 1))


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


def test_a_task_without_any_loss_is_left_out_of_its_plots(tmp_path):
    rows = [mixed_row(step) for step in range(1, 61)]
    rows += [pair_row(step, task="broken", loss=None, skipped=True) for step in range(61, 70)]
    run = read_run(write_run(tmp_path, rows=rows))
    with styled():
        for name in ("loss_by_step", "learning_rate_loss"):
            assert "broken" not in [axes.get_ylabel() for axes in PLOTS[name](run, 5).axes]
        assert PLOTS["loss_hist_by_task"](run, 5).axes
    entry = next(one for one in describe_run(run).loss_by_task if one.name == "broken")
    assert entry.loss.last_average is None


def clipped_texts(figure):
    """Texts that the figure does not hold."""
    figure.draw_without_rendering()
    edges = figure.bbox
    boxes = {
        text.get_text(): text.get_window_extent()
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text()
    }
    # Ticks beyond the limits of an axis have a text, but are not drawn.
    return {
        name
        for name, box in boxes.items()
        if not math.isnan(box.x0)
        and not (box.x0 >= 0 and box.x1 <= edges.x1 and box.y0 >= 0)
        and not name.replace(",", "").replace("k", "").replace(".", "").isdecimal()
    }


@pytest.mark.parametrize("name", PLOTS)
def test_no_text_is_clipped(name, rows, tmp_path):
    """However long the names of tasks and sets are, and however many there are."""
    long = [row | {"task": f"{row['task']} with a name that is rather long"} for row in rows]
    log = write_run(tmp_path, NUM_STEPS, rows=long)
    evals = []
    for step in range(0, NUM_STEPS, 10):
        one = mixed_eval_row(step)
        metrics = {key: value for key, value in one.items() if "/" in key}
        for number in range(3):
            one |= {f"set {number} with a long name of {k}": v for k, v in metrics.items()}
        one |= {f"tasks/task {n} with a long name/ndcg_at_10": step / 200 for n in range(9)}
        evals.append(one)
    write_lines(tmp_path / "eval.jsonl", evals)
    longer = {"model": "a model with a name that is rather long", "metric": "a long metric"}
    write_measured(
        tmp_path,
        [row | longer | {"task": f"{row['task']} with a long name"} for row in score_rows()],
        spectra=[row | longer for row in spectrum_rows()],
    )
    with styled():
        figure = PLOTS[name](read_run(log), 10)
        assert clipped_texts(figure) == set()


def test_titles_list_what_they_have_room_for():
    assert listed("Now", ["a 1"]) == "Now: a 1"
    assert listed("Now", ["a 1", "b 2"]) == "Now: a 1, b 2"
    assert listed("Now", ["a" * 30, "b" * 30, "c"], 60) == f"Now: {'a' * 30} and 2 more"
    assert listed("Now", ["a" * 80, "b"], 60) == f"Now: {'a' * 80} and 1 more"


@pytest.mark.parametrize("name", [name for name in PLOTS if name not in MEASURED])
def test_each_task_has_its_own_panel(name, run, rows):
    with styled():
        figure = PLOTS[name](run, 10)
    texts = [text.get_text() for text in figure.findobj(Text)]
    if name in ("loss_by_step", "learning_rate_loss", "loss_hist_by_task"):
        assert set(TASKS) <= {axes.get_ylabel() for axes in figure.axes}
        for axes in figure.axes:
            task = axes.get_ylabel()
            drawn = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) > 9]
            if task in TASKS and name != "loss_hist_by_task":
                assert values(rows, task, "loss") in [list(one) for one in drawn]
    if name == "loss_by_step":
        held_out = next(axes for axes in figure.axes if axes.get_ylabel() == "mlm")
        assert "held-out mean" in [line.get_label() for line in held_out.lines]
        others = [axes for axes in figure.axes if axes is not held_out]
        assert not any("held-out" in str(line.get_label()) for a in others for line in a.lines)
    if name == "similarity_by_step":
        labels = [axes.get_ylabel() for axes in figure.axes]
        assert labels == [*run.embedding_tasks, "temperature"]
    if name == "pair_metrics_by_step":
        assert [axes.get_ylabel() for axes in figure.axes] == ["nq", "quora", "sts"]
        assert {"at 128", "at 64"} <= {text.split("  ")[-1] for text in texts}


def test_masked_tasks_alone_share_a_panel(tmp_path):
    run = read_run(write_run(tmp_path, rows=[log_row(step) for step in range(1, 90)]))
    with styled():
        assert len(PLOTS["loss_by_step"](run, 5).axes) == 1
        assert PLOTS["similarity_by_step"](run, 5) is None
        assert PLOTS["pair_metrics_by_step"](run, 5) is None
