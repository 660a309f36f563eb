"""Masked-heading modelling: a heading is wholly masked, and predicted from the body below it.

A heading is a line of at most `max_heading_tokens` that a longer line follows. The kl3m
configurations name this task without a definition; this one is ours (docs/training.md).
"""

from dataclasses import dataclass

import numpy as np

from kl3m_embeddings.config.tasks import MhmOptions
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.masked.base import MaskedTask
from kl3m_embeddings.tasks.masked.lines import choose_line, find_lines, masked_line_batch


@dataclass(frozen=True)
class MaskedHeadingModelling(MaskedTask[MhmOptions]):
    """`mhm`: a heading is hidden, and the window begins with it."""

    def batch(self, source: TextSource, first_sample: int, count: int) -> Batch:
        """Windows that begin with a masked heading."""
        windows = source.corpus.windows(first_sample, count)
        lines = find_lines(source, windows)
        # The length of the next line, at each start; `next_starts` may be the window's size.
        padded_lengths = np.pad(lines.lengths, ((0, 0), (0, 1)))  # no line starts at the very end
        next_lengths = np.take_along_axis(padded_lengths, lines.next_starts, axis=1)
        short = lines.lengths <= self.options.max_heading_tokens
        headings = lines.starts & short & (next_lengths > lines.lengths)
        found, positions = choose_line(source, "mhm", headings, first_sample)
        return masked_line_batch(
            source,
            windows,
            task="mhm",
            first_sample=first_sample,
            found=found,
            line_starts=positions,
            line_lengths=lines.lengths[range(count), positions],
            ends_with_line=False,
            max_line_tokens=self.options.max_heading_tokens,
        )
