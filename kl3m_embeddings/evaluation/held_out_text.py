"""Held-out loss of masked tokens.

Samples are drawn once, masks included, and written to eval_samples.jsonl: every evaluation of a
run, resumed or not, sees the same ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from kl3m_embeddings.data.batch import IGNORED_LABEL, Batch
from kl3m_embeddings.engine.base import Engine
from kl3m_embeddings.files.json_lines import json_line
from kl3m_embeddings.files.whole import whole_file
from kl3m_embeddings.tasks.base import Task, TextSource

SAMPLES_FILE = "eval_samples.jsonl"
LENGTH_MULTIPLE = 32


@dataclass(frozen=True, kw_only=True)
class TextEvaluation:
    """Fixed samples of held-out text."""

    batches: Sequence[Batch]
    """As they were drawn."""
    by_length: Sequence[Batch]
    """The same samples, those of similar length together."""
    source: TextSource

    def evaluate(self, engine: Engine, stopped: Callable[[], bool]) -> dict[str, Any] | None:
        """The fields of a row of eval.jsonl; None if `stopped` turned true meanwhile."""
        losses: list[NDArray[np.float64]] = []
        num_correct = num_targets = 0
        for batch in self.by_length:
            if stopped():
                return None
            outputs = engine.forward(batch, grad=False)
            assert outputs.target_losses is not None and outputs.num_correct is not None
            losses.append(sample_losses(batch, outputs.target_losses))
            num_correct += int(outputs.num_correct)
            num_targets += batch.counts["mlm"]
        row = distribution(np.concatenate(losses))
        return row | {"accuracy": num_correct / num_targets}


def sample_losses(batch: Batch, losses: Float[Tensor, " targets"]) -> NDArray[np.float64]:
    """Mean loss of each sample's targets, of shape (samples)."""
    assert batch.target_labels is not None and batch.target_positions is not None
    num_samples, length = batch.input_ids.shape
    labelled = (batch.target_labels != IGNORED_LABEL).numpy()
    rows = batch.target_positions.numpy()[labelled] // length
    totals = np.bincount(rows, losses.double().cpu().numpy()[labelled], minlength=num_samples)
    counts = np.bincount(rows, minlength=num_samples)
    return totals / np.maximum(counts, 1)


def distribution(losses: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, median, spread and percentiles of the samples' losses; null where not finite."""
    with np.errstate(invalid="ignore"):
        p5, median, p95 = np.percentile(losses, [5, 50, 95])
        row = {
            "mean": losses.mean(),
            "median": median,
            "std": losses.std(),
            "min": losses.min(),
            "p5": p5,
            "p95": p95,
            "max": losses.max(),
        }
    numbers = {key: float(value) if np.isfinite(value) else None for key, value in row.items()}
    return {**numbers, "num_samples": len(losses)}


def draw_samples(
    source: TextSource, task: Task[TextSource], *, num_samples: int, batch_size: int
) -> TextEvaluation:
    """The first samples of a source, masks included: a pure function of it.

    Args:
        source: the held-out text, or the training text where there is too little to hold out.
        task: what the samples are evaluated by.
        num_samples: how many.
        batch_size: samples of a forward pass.
    """
    batches = [
        task.batch(source, first, min(batch_size, num_samples - first))
        for first in range(0, num_samples, batch_size)
    ]
    unseeded = [batch.without_dropout() for batch in batches]
    return TextEvaluation(batches=unseeded, by_length=sorted_by_length(unseeded), source=source)


def sorted_by_length(batches: Sequence[Batch]) -> list[Batch]:
    """The samples in batches as large, from short ones to long ones, cut to the longest of each.

    Lengths are rounded up, so that the shapes of batches are few.
    """
    input_ids = torch.cat([batch.input_ids for batch in batches])
    attention_mask = torch.cat([batch.attention_mask for batch in batches])
    labels = torch.cat([target_matrix(batch) for batch in batches])
    lengths = attention_mask.sum(dim=1)
    result = []
    for rows in torch.split(lengths.argsort(stable=True), len(batches[0].input_ids)):
        longest = int(lengths[rows].max())
        length = min(input_ids.shape[1], -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
        of_rows = labels[rows, :length].flatten()
        positions = (of_rows != IGNORED_LABEL).nonzero()[:, 0]
        result.append(
            replace(
                batches[0],
                input_ids=input_ids[rows, :length],
                attention_mask=attention_mask[rows, :length],
                target_positions=positions,
                target_labels=of_rows[positions],
                counts={"mlm": len(positions)},
            )
        )
    return result


def target_matrix(batch: Batch) -> Int[Tensor, "samples length"]:
    """The token to predict at each place, or IGNORED_LABEL."""
    assert batch.target_labels is not None and batch.target_positions is not None
    labels = torch.full((batch.input_ids.numel(),), IGNORED_LABEL)
    labelled = batch.target_labels != IGNORED_LABEL
    labels[batch.target_positions[labelled]] = batch.target_labels[labelled]
    return labels.view(batch.input_ids.shape)


def write_samples(evaluation: TextEvaluation, path: Path) -> None:
    """Write the samples as JSON lines, for people and programs to look at."""
    with whole_file(path, "make room, or mend its rights") as temporary:
        temporary.write_bytes(b"".join(json_line(row) for row in _rows(evaluation)))


def _rows(evaluation: TextEvaluation) -> Iterator[dict[str, Any]]:
    corpus, first_sample = evaluation.source.corpus, 0
    for batch in evaluation.batches:
        num_samples = len(batch.input_ids)
        windows = corpus.windows(first_sample, num_samples)
        for row, row_labels in enumerate(target_matrix(batch)):
            positions = (row_labels != IGNORED_LABEL).nonzero()[:, 0]
            dataset = int(windows.datasets[row])
            yield {
                "dataset": corpus.names[dataset],
                "document": corpus.indices[dataset].shards.document_id(int(windows.documents[row])),
                "task": batch.info.task,
                "input_ids": batch.input_ids[row, batch.attention_mask[row] > 0].tolist(),
                "target_positions": positions.tolist(),
                "target_ids": row_labels[positions].tolist(),
            }
        first_sample += num_samples
