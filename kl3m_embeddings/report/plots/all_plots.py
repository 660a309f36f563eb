"""Every plot of a run by the name of its file."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from kl3m_embeddings.report.plots.dims import quality_by_dim
from kl3m_embeddings.report.plots.histogram import loss_hist_by_task
from kl3m_embeddings.report.plots.loss import learning_rate_loss, loss_by_step
from kl3m_embeddings.report.plots.mix import samples_by_dataset, tokens_by_task
from kl3m_embeddings.report.plots.pair_metrics import pair_metrics_by_step
from kl3m_embeddings.report.plots.similarity import similarity_by_step
from kl3m_embeddings.report.plots.spectra import spectra
from kl3m_embeddings.report.plots.speed import step_time_components
from kl3m_embeddings.report.plots.style import save, styled
from kl3m_embeddings.report.plots.svd import svd_metrics
from kl3m_embeddings.report.plots.tasks import tasks_by_step
from kl3m_embeddings.report.read.run import Run

# A plot is a figure, or the reason why there is none; None if the run is not one that has it.
PLOTS: dict[str, Callable[[Run, int], Figure | str | None]] = {
    "loss_by_step": loss_by_step,
    "learning_rate_loss": learning_rate_loss,
    "loss_hist_by_task": loss_hist_by_task,
    "step_time_components": step_time_components,
    "svd_metrics": svd_metrics,
    "samples_by_dataset": samples_by_dataset,
    "tokens_by_task": tokens_by_task,
    "pair_metrics_by_step": pair_metrics_by_step,
    "similarity_by_step": similarity_by_step,
    "tasks_by_step": tasks_by_step,
    "quality_by_dim": quality_by_dim,
    "spectra": spectra,
}


def draw_all(run: Run, window: int, folder: Path) -> tuple[list[Path], list[str]]:
    """Draw what can be drawn into `folder`; returns the PNGs, and what is missing and why."""
    written, missing = [], []
    for name, plot in PLOTS.items():
        path = folder / f"{name}.png"
        with styled():
            figure = plot(run, window)
            if isinstance(figure, str):
                missing.append(f"{path.name} is not drawn: {figure}")
            elif figure is not None:
                save(figure, path)
                written.append(path)
    return written, missing
