"""Every plot of every kind of run: drawn, or said why not."""

import math

import pytest
from matplotlib.image import imread  # noqa: TID251
from matplotlib.text import Text  # noqa: TID251

from kl3m_embeddings.report.names import number
from kl3m_embeddings.report.plots.all_plots import PLOTS, draw_all
from kl3m_embeddings.report.plots.style import styled
from kl3m_embeddings.report.read.run import read_run
from tests.report.logs import (
    PUBLISHED_EVAL,
    PUBLISHED_STEP,
    log_row,
    mixed_eval_row,
    mixed_row,
    pair_eval_row,
    pair_row,
    write_lines,
    write_run,
)
from tests.report.measured import (
    baseline_row,
    probe_eval_row,
    query_row,
    score_row,
    score_rows,
    spectrum_rows,
    write_measured,
)

NAMES = {
    "loss_by_step", "step_time_components", "learning_rate_loss", "svd_metrics",
    "samples_by_dataset", "tokens_by_task", "loss_hist_by_task",
}  # fmt: skip


OF_EMBEDDINGS = {"pair_metrics_by_step", "similarity_by_step"}
MEASURED = {"tasks_by_step", "quality_by_dim", "spectra"}


def draw(log, folder):
    written, missing = draw_all(read_run(log), 10, folder)
    for path in written:
        pixels = imread(path)
        assert pixels.shape[1] == 1600
        assert pixels[..., :3].std() > 0.05
    return {path.stem for path in written}, missing


def test_all_plots_of_a_run(tmp_path):
    rows = [
        log_row(step, loss=None, skipped=True) if step == 7 else log_row(step)
        for step in range(1, 61)
    ]
    assert draw(write_run(tmp_path, rows=rows), tmp_path / "out") == (NAMES, [])


def test_all_plots_of_a_run_of_several_kinds_of_tasks(tmp_path):
    rows = [mixed_row(step) for step in range(1, 121)]
    rows[6] |= {"loss": None, "skipped": True}
    log = write_run(tmp_path, 120, rows=rows, evals=mixed_eval_row)
    assert draw(log, tmp_path / "out") == (NAMES | OF_EMBEDDINGS, [])


@pytest.mark.parametrize("num_steps", [1, 40])
def test_pairs_only(tmp_path, num_steps):
    rows = [pair_row(step) for step in range(1, num_steps + 1)]
    drawn, missing = draw(write_run(tmp_path, rows=rows, evals=pair_eval_row), tmp_path)
    assert drawn == (NAMES | OF_EMBEDDINGS) - {"svd_metrics"}
    assert missing == ["svd_metrics.png is not drawn: eval.jsonl is missing, or has no svd_ field"]


def test_masked_tasks_may_have_held_out_pairs(tmp_path):
    run = read_run(write_run(tmp_path, evals=mixed_eval_row))
    with styled():
        assert len(PLOTS["pair_metrics_by_step"](run, 1).axes) == 3
        assert PLOTS["similarity_by_step"](run, 1) is None


def test_a_run_of_one_step(tmp_path):
    drawn, missing = draw(write_run(tmp_path, num_steps=1, evals=False), tmp_path)
    assert drawn == NAMES - {"svd_metrics"}
    assert missing == ["svd_metrics.png is not drawn: eval.jsonl is missing, or has no svd_ field"]


def test_published_files(tmp_path):
    write_lines(tmp_path / "eval.jsonl", [PUBLISHED_EVAL])
    assert draw(write_lines(tmp_path / "log.jsonl", [PUBLISHED_STEP]), tmp_path) == (NAMES, [])


@pytest.mark.parametrize("rows", [[], [{"step": 5}]])
def test_nothing_to_draw_is_said_for_every_plot(tmp_path, rows):
    drawn, missing = draw(write_run(tmp_path, rows=rows, evals=False), tmp_path)
    assert drawn == set()
    assert {note.partition(".png is not drawn: ")[0] for note in missing} == NAMES


def test_evaluations_without_steps(tmp_path):
    drawn, _ = draw(write_run(tmp_path, rows=[]), tmp_path)
    assert drawn == {"svd_metrics"}


@pytest.mark.slow
def test_hostile_and_many_names(tmp_path):
    names = [
        "$\\frac{$",
        "_a",
        "\x1b[31m",
        "日本語",
        "step",
        "\0other",
        "[b]",
        *map(str, range(40)),
    ]
    rows = [
        log_row(step, task=name, samples_by_dataset={name: 1})
        for step, name in enumerate(names * 2)
    ]
    assert draw(write_run(tmp_path, rows=rows), tmp_path) == (NAMES, [])
    log = write_run(tmp_path, rows=[*rows, *(pair_row(99 + n, task=names[n]) for n in range(9))])
    metrics = {f"{name}/ap": 0.5 for name in names} | {"a//ap": -0.5, "/ap/1": 0.25}
    write_lines(tmp_path / "eval.jsonl", [{"step": 1, "svd_": 1.0, **metrics}])
    assert draw(log, tmp_path) == (NAMES | OF_EMBEDDINGS, [])


@pytest.mark.slow
def test_spikes_and_values_over_scales(tmp_path):
    rows = [log_row(step, loss=10.0 ** (5 - step / 10), lr=0.9**step) for step in range(60)]
    rows[30] |= {"loss": 1e9, "step_time": 1e5}
    assert draw(write_run(tmp_path, rows=rows), tmp_path) == (NAMES, [])
    rows += [pair_row(60 + n, loss=10.0 ** (n % 9), mean_sim_negative=0.25) for n in range(60)]
    log = write_run(tmp_path, rows=rows, evals=pair_eval_row)
    assert draw(log, tmp_path)[0] == (NAMES | OF_EMBEDDINGS) - {"svd_metrics"}


def test_titles_say_what_is_seen(tmp_path):
    run = read_run(write_run(tmp_path))
    with styled():
        figures = {name: plot(run, 10) for name, plot in PLOTS.items()}
    assert {name for name, figure in figures.items() if figure is None} == OF_EMBEDDINGS | MEASURED
    titles = {name: figure.texts[0].get_text() for name, figure in figures.items() if figure}
    assert titles["loss_by_step"].startswith("Training loss fell from ")
    assert "held-out loss fell from 9.00 to 4.00" in titles["loss_by_step"]
    assert titles["svd_metrics"].endswith("rose from 1.50 to 2.00")
    assert titles["step_time_components"].startswith("A step takes ")


def test_titles_of_several_kinds_of_tasks_say_what_is_seen(tmp_path):
    rows = [mixed_row(step) for step in range(1, 121)]
    run = read_run(write_run(tmp_path, 120, rows=rows, evals=mixed_eval_row))
    with styled():
        figures = {name: plot(run, 1) for name, plot in PLOTS.items()}
    titles = {name: figure.texts[0].get_text() for name, figure in figures.items() if figure}
    last = {row["task"]: row for row in rows}
    assert titles["loss_by_step"].startswith("Training loss now: ")
    assert f"pairs {number(last['pairs']['loss'], 3)}" in titles["loss_by_step"]
    assert titles["learning_rate_loss"] == "Learning rate 1e-4, at its peak"
    metrics = mixed_eval_row(110)
    assert titles["pair_metrics_by_step"] == (
        f"Held-out now: nq ndcg@10 {metrics['nq/ndcg@10']:.3f}, quora ap "
        f"{metrics['quora/ap']:.3f}, sts spearman {metrics['sts/spearman']:.3f}"
    )
    first = next(row for row in rows if row["task"] in run.embedding_tasks[:1])
    gaps = [
        row["mean_sim_positive"] - row["mean_sim_negative"] for row in (last[first["task"]], first)
    ]
    assert titles["similarity_by_step"] == (
        f"{first['task']}: positive and negative pairs are {gaps[0]:.3f} apart, "
        f"{number(gaps[1], 3)} at first"
    )


@pytest.mark.slow
def test_what_was_measured_is_drawn(tmp_path):
    write_measured(tmp_path)
    log = write_run(tmp_path, evals=probe_eval_row)
    assert draw(log, tmp_path / "out") == (NAMES | MEASURED, [])
    with styled():
        run = read_run(log)
        titles = {name: PLOTS[name](run, 5).texts[0].get_text() for name in MEASURED}
        assert len(PLOTS["tasks_by_step"](run, 5).axes) == 4
    assert titles["tasks_by_step"].startswith("Mean score of 2 tasks rose from 0 to 0.4")
    assert titles["spectra"] == "Embeddings use 40.0 of 64 directions (effective rank)"
    assert titles["quality_by_dim"] == "The first 16 dimensions keep 48% of the score"


@pytest.mark.slow
def test_tasks_of_a_log_without_steps_and_of_mixed_losses(tmp_path):
    rows = [mixed_row(step) for step in range(1, 61)]
    for name, of_log, evals in (("a", [], probe_eval_row), ("b", rows, mixed_eval_row)):
        write_measured(tmp_path / name)
        log = write_run(tmp_path / name, rows=of_log, evals=evals)
        assert "tasks_by_step" in draw(log, tmp_path / name)[0]


@pytest.mark.slow
def test_odd_spectra_and_sizes(tmp_path):
    names = ["$\\frac{$", "\x1b[31m", "layer.0.", "0", "[b]", *(f"k{n}.a" for n in range(9))]
    spectra = [
        {**spectrum_rows()[0], "name": name, "singular_values": values, "effective_rank": None}
        for name, values in zip(names, [[0.0], [], [1e-9, 0], [2.0], [-1.0, 3.0]] * 3, strict=False)
    ]
    scores = [
        score_row(name, name, dim=dim, score=-0.1) for name in names for dim in (1, 64, 10**9)
    ]
    scores += [baseline_row(name, f"{name}{n}", dtype="?") for n in range(12) for name in names]
    write_measured(tmp_path, scores, [query_row()], spectra)
    drawn, _ = draw(write_run(tmp_path, evals=False), tmp_path)
    assert drawn == (NAMES | MEASURED) - {"svd_metrics", "tasks_by_step"}
    write_measured(tmp_path, score_rows()[:1], [], [{**spectra[0], "singular_values": []}])
    drawn, missing = draw(write_run(tmp_path), tmp_path / "x")
    assert (drawn, missing) == (
        NAMES, ["spectra.png is not drawn: spectra.jsonl has no singular values"],
    )  # fmt: skip


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
def test_no_text_is_clipped(name, mixed_rows, tmp_path):
    """However long the names of tasks and sets are, and however many there are."""
    long = [row | {"task": f"{row['task']} with a name that is rather long"} for row in mixed_rows]
    log = write_run(tmp_path, 200, rows=long)
    evals = []
    for step in range(0, 200, 10):
        one = mixed_eval_row(step)
        metrics = {key: value for key, value in one.items() if "/" in key}
        for index in range(3):
            one |= {f"set {index} with a long name of {k}": v for k, v in metrics.items()}
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
