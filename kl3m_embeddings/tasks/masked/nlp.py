"""Next-line prediction: a line is wholly masked, and predicted from the lines before it.

The kl3m configurations name this task without a definition; this one is ours (docs/training.md).
"""

from dataclasses import dataclass

import numpy as np

from kl3m_embeddings.config.tasks import NlpOptions
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.masked.base import MaskedTask
from kl3m_embeddings.tasks.masked.lines import choose_line, find_lines, masked_line_batch

MIN_CONTEXT_TOKENS = 8


@dataclass(frozen=True)
class NextLinePrediction(MaskedTask[NlpOptions]):
    """`nlp`: a line is hidden, and the window ends with it."""

    def batch(self, source: TextSource, first_sample: int, count: int) -> Batch:
        """Windows that end with a masked line."""
        windows = source.corpus.windows(first_sample, count)
        lines = find_lines(source, windows)
        far_enough = np.arange(source.corpus.window) >= MIN_CONTEXT_TOKENS
        found, positions = choose_line(source, "nlp", lines.starts & far_enough, first_sample)
        lengths = np.minimum(lines.lengths[range(count), positions], self.options.max_line_tokens)
        return masked_line_batch(
            source,
            windows,
            task="nlp",
            first_sample=first_sample,
            found=found,
            line_starts=positions,
            line_lengths=lengths,
            ends_with_line=True,
            max_line_tokens=self.options.max_line_tokens,
        )
