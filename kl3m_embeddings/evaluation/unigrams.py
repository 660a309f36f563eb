"""What guessing by frequency alone achieves on the evaluation samples: the mark to beat."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.data.batch import IGNORED_LABEL
from kl3m_embeddings.data.samples.corpus import Corpus
from kl3m_embeddings.evaluation.held_out_text import TextEvaluation

NUM_COUNTED_SAMPLES = 20_000


@dataclass(frozen=True)
class UnigramBaseline:
    """Held-out loss and accuracy of the unigram distribution of the training text."""

    mean_loss: float
    accuracy: float


def unigram_baseline(
    train: Corpus,
    evaluation: TextEvaluation,
    vocab_size: int,
    num_samples: int = NUM_COUNTED_SAMPLES,
) -> UnigramBaseline:
    """Count tokens in the training stream, one added to each, and predict the held-out targets.

    Args:
        train: what the run trains on; its first samples are counted, in the run's own proportions.
        evaluation: the held-out samples.
        vocab_size: of the tokenizer.
        num_samples: how many samples are counted.
    """
    windows = train.windows(0, num_samples)
    inside = np.arange(train.window) < windows.lengths[:, None]
    counts = np.bincount(windows.tokens[inside], minlength=vocab_size) + 1.0
    log_probabilities = np.log(counts / counts.sum())
    losses: list[NDArray[np.float64]] = []
    num_correct = num_targets = 0
    for batch in evaluation.batches:
        assert batch.target_labels is not None and batch.target_positions is not None
        num_rows, length = batch.input_ids.shape
        labelled = (batch.target_labels != IGNORED_LABEL).numpy()
        labels = batch.target_labels.numpy()[labelled]
        rows = batch.target_positions.numpy()[labelled] // length
        totals = np.bincount(rows, -log_probabilities[labels], minlength=num_rows)
        losses.append(totals / np.bincount(rows, minlength=num_rows))
        num_correct += int((labels == counts.argmax()).sum())
        num_targets += len(labels)
    return UnigramBaseline(float(np.concatenate(losses).mean()), num_correct / num_targets)
