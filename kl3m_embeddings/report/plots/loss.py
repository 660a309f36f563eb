"""The loss over the steps, with the evaluations, and beside the learning rate."""

from matplotlib.figure import Figure

from kl3m_embeddings.report.names import number
from kl3m_embeddings.report.plots.loss_parts import (
    draw_evals,
    draw_rates,
    draw_training_loss,
    eval_labels,
    limit_loss,
    mark_events,
    rate_title,
    spread_note,
)
from kl3m_embeddings.report.plots.parts import mark_resumes, moved, step_axis_of, subtitle
from kl3m_embeddings.report.plots.style import (
    BLUE,
    TOP_WITHOUT_LEGEND_IN,
    Label,
    footnote,
    label_right,
    legend,
    new_figure,
    place,
)
from kl3m_embeddings.report.plots.task_loss import learning_rate_task_losses, task_losses_by_step
from kl3m_embeddings.report.read.run import Run
from kl3m_embeddings.report.statistics.losses import moving_average


def loss_by_step(run: Run, window: int) -> Figure | str:
    """Training loss and held-out loss on the same axes; where losses are mixed, task by task."""
    if run.mixes_losses:
        return task_losses_by_step(run, window)
    losses = moving_average(run.steps, window)
    if losses.is_empty():
        return "the log has no loss"
    last = losses["average"][-1]
    title = f"Training loss {moved(losses['loss'][0], last)}"
    evals = run.evals.drop_nulls("mean") if run.has_eval("mean") else run.evals.clear()
    if len(evals):
        title += f"; held-out loss {moved(evals['mean'][0], evals['mean'][-1])}"
    figure = new_figure(title, subtitle(run))
    [axes] = place(figure, right_in=1.6)
    seen = draw_training_loss(axes, losses, window)
    labels = [Label(last, f"training {number(last, 3)}", BLUE)]
    if len(evals):
        seen += draw_evals(axes, evals)
        labels += eval_labels(evals)
    cut = limit_loss(axes, seen, losses["average"])
    mark_events(axes, run)
    step_axis_of(axes, run)
    legend(axes)
    label_right(axes, labels)
    footnote(figure, "  ".join([spread_note(losses), cut]))
    return figure


def learning_rate_loss(run: Run, window: int) -> Figure | str:
    """The learning rate above the loss, over the same steps."""
    rates = run.steps.select("step", "lr").drop_nulls()
    if rates.is_empty() or not run.log.has("loss"):
        return "the log has no learning rate" if rates.is_empty() else "the log has no loss"
    if run.mixes_losses:
        return learning_rate_task_losses(run, rates, window)
    losses = moving_average(run.steps, window)
    last = losses["average"][-1]
    figure = new_figure(
        f"{rate_title(rates)}; training loss {number(last, 3)}", subtitle(run), height_in=5.6
    )
    upper, lower = place(
        figure, 2, height_ratios=(2.0, 3.0), hspace=0.2, left_in=0.85, top_in=TOP_WITHOUT_LEGEND_IN
    )
    draw_rates(upper, rates)
    seen = draw_training_loss(lower, losses, window)
    cut = limit_loss(lower, seen, losses["average"])
    mark_events(lower, run)
    mark_resumes(upper, run)
    step_axis_of(lower, run)
    legend(lower)
    label_right(lower, [Label(last, f"training {number(last, 3)}", BLUE)])
    footnote(figure, "  ".join([spread_note(losses), cut]))
    return figure
