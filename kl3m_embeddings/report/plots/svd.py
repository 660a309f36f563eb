"""The spectrum of the weights along the run: is the encoder using its dimensions?"""

from matplotlib.figure import Figure

from kl3m_embeddings.report.names import number, printable
from kl3m_embeddings.report.plots.parts import (
    mark_resumes,
    marker_for,
    moved,
    step_axis_of,
    subtitle,
)
from kl3m_embeddings.report.plots.style import (
    SERIES,
    TOP_IN,
    TOP_WITHOUT_LEGEND_IN,
    Label,
    footnote,
    label_right,
    legend,
    new_figure,
    place,
    value_axis,
)
from kl3m_embeddings.report.read.run import Run

NAMES = {
    "svd_mean_ratio_1": "largest / mean",
    "svd_median_ratio_1": "largest / median",
}


def svd_metrics(run: Run, window: int) -> Figure | str:
    """Every `svd_` field of the evaluations over the steps."""
    names = [name for name in run.evals.columns if name.startswith("svd_") and run.has_eval(name)]
    if not names:
        return "eval.jsonl is missing, or has no svd_ field"
    names = names[: len(SERIES)]
    first = run.evals[names[0]].drop_nulls()
    figure = new_figure(
        f"The largest singular value over the {'mean' if 'mean' in names[0] else 'others'} "
        f"{moved(first[0], first[-1])}",
        subtitle(run),
    )
    [axes] = place(figure, right_in=1.9, top_in=TOP_IN if run.resumes else TOP_WITHOUT_LEGEND_IN)
    labels, seen = [], []
    for name, colour in zip(names, SERIES, strict=False):
        rows = run.evals.select("step", name).drop_nulls()
        axes.plot(
            rows["step"],
            rows[name],
            marker=marker_for(rows),
            color=colour,
            markersize=3.4,
            linewidth=1.5,
        )
        shown = NAMES.get(name, printable(name.removeprefix("svd_"), 18))
        labels.append(Label(rows[name][-1], f"{shown}  {number(rows[name][-1], 3)}", colour))
        seen += rows[name].to_list()
    mark_resumes(axes, run, label=True)
    value_axis(axes, "ratio of singular values", min(seen), max(seen))
    step_axis_of(axes, run)
    legend(axes)
    label_right(axes, labels)
    footnote(
        figure,
        "Averaged over the layers' feed-forward weights. It rises as the weights "
        "concentrate on few directions.",
    )
    return figure
