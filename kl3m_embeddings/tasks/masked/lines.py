"""Lines in token windows, and batches in which one whole line of each sample is masked.

A line begins after a token whose text holds a line break, or with the document. Samples without a
line that fits the task fall back to plain masking, and are counted.

Of the tokens `a / b c / / d`, where / holds a line break, lines start at 0, 2 and 6 and have 1, 2
and 1 tokens: an empty line is none. Arrays are (samples, window), of the text's tokens; a framed
row has [CLS] before them, so that token t of a window is token t + 1 of its row.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import IGNORED_LABEL, Batch
from kl3m_embeddings.data.counter_random import derive_key, random_uint32
from kl3m_embeddings.data.samples.corpus import Windows
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.tasks.base import TextSource, assemble, framed
from kl3m_embeddings.tasks.masked.masking import mask_tokens, max_budget

FALLBACK = MlmOptions(probability=1.0)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Where lines are in windows."""

    starts: Bool[np.ndarray, "samples window"]
    lengths: Int64[np.ndarray, "samples window"]
    """At a start: tokens up to the next line break, cut at the window's end."""
    next_starts: Int64[np.ndarray, "samples window"]
    """At a start: where the next line starts, or the window's size."""


def find_lines(source: TextSource, windows: Windows) -> Lines:
    """Find the lines of each window."""
    if not source.newline_ids.any():
        raise ConfigError(
            "tasks: nlp and mhm need line breaks, and no token of the tokenizer holds one: "
            "use a byte-level tokenizer, or leave these tasks out"
        )
    window = windows.tokens.shape[1]
    positions = np.arange(window)
    inside = positions < windows.lengths[:, None]
    breaks = source.newline_ids[windows.tokens] & inside
    before = np.roll(breaks, 1, axis=1)
    # Whether a line begins with the window is known only where the document does.
    before[:, 0] = windows.starts == source.corpus.document_start(windows)
    starts = before & ~breaks & inside
    ends = next_true(breaks | ~inside)
    after = np.concatenate([next_true(starts)[:, 1:], np.full((len(starts), 1), window)], axis=1)
    return Lines(starts=starts, lengths=ends - positions, next_starts=after)


def next_true(flags: Bool[np.ndarray, "rows width"]) -> Int64[np.ndarray, "rows width"]:
    """The first true column at or after each one, or the row's size.

    `0 1 0 0 1 0` gives `1 1 4 4 4 6`: a running minimum from the right.
    """
    positions = np.where(flags, np.arange(flags.shape[1]), flags.shape[1])
    return np.minimum.accumulate(positions[:, ::-1], axis=1)[:, ::-1]


def choose_line(
    source: TextSource, task: str, candidates: Bool[np.ndarray, "samples window"], first_sample: int
) -> tuple[Bool[np.ndarray, " samples"], Int64[np.ndarray, " samples"]]:
    """For each sample: is there a candidate, and the position of one chosen at random.

    Each position draws a number, and the candidate with the largest is chosen: all are as likely.
    """
    key = derive_key(source.seed, task)
    draws = random_uint32(key, first_sample, *candidates.shape).astype(np.int64)
    found: np.ndarray = np.any(candidates, axis=1)
    positions: np.ndarray = np.argmax(np.where(candidates, draws, -1), axis=1)
    return found, positions


def masked_line_batch(
    source: TextSource,
    windows: Windows,
    *,
    task: str,
    first_sample: int,
    found: Bool[np.ndarray, " samples"],
    line_starts: Int64[np.ndarray, " samples"],
    line_lengths: Int64[np.ndarray, " samples"],
    ends_with_line: bool,
    max_line_tokens: int,
) -> Batch:
    """A batch of windows in which a line is wholly masked, at the end or at the beginning.

    Args:
        source: the text and the tokenizer's ids.
        windows: what was looked at; samples that are not `found` keep theirs.
        task: for the log.
        first_sample: index of the first row in the run.
        found: whether there is a line to mask.
        line_starts: where it starts in the window.
        line_lengths: its tokens.
        ends_with_line: the row ends with the line, after as much text as fits; else it begins so.
        max_line_tokens: no line is longer.
    """
    starts = windows.starts + line_starts  # in the dataset's token stream
    if ends_with_line:
        starts = np.maximum(
            starts + line_lengths - source.corpus.window, source.corpus.document_start(windows)
        )
    starts = np.where(found, starts, windows.starts)
    cut = source.corpus.cut(windows.datasets, windows.documents, starts)
    offsets = windows.starts + line_starts - starts  # of the line in the window cut anew
    lengths = np.where(found & ends_with_line, offsets + line_lengths, cut.lengths)
    input_ids, attention_mask = framed(source.tokenizer, cut.tokens, lengths, source.max_length)
    positions = np.arange(source.max_length) - 1  # of the text: [CLS] is -1
    maskable = (positions >= 0) & (positions < lengths[:, None])
    corrupted, labels = mask_tokens(source, input_ids, maskable, first_sample, FALLBACK)
    in_line = (positions >= offsets[:, None]) & (positions < (offsets + line_lengths)[:, None])
    line_ids = np.where(in_line, source.tokenizer.mask_id, input_ids)
    return assemble(
        source,
        cut,
        task=task,
        input_ids=np.where(found[:, None], line_ids, corrupted),
        attention_mask=attention_mask,
        labels=np.where(found[:, None], np.where(in_line, input_ids, IGNORED_LABEL), labels),
        targets_per_sample=max(
            min(max_line_tokens, source.corpus.window),
            max_budget(source.corpus.window, FALLBACK.mask_rate),
        ),
        num_fallback=int((~found).sum()),
    )
