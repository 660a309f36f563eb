"""Texts of embedding tasks, out of the corpus: spans of documents, chosen at random.

A span depends on the random numbers given for its sample, and on nothing else. The positions of a
span are those of its dataset's token stream.
"""

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.data.samples.corpus import Corpus, Spans, text_hashes
from kl3m_embeddings.tasks.embedding.base import TextColumns

Ints = NDArray[np.int64]
Uniforms = NDArray[np.float64]


def below(draws: Uniforms, counts: Ints) -> Ints:
    """Turn uniform numbers in [0, 1) into whole ones from 0 up to, not including, the counts."""
    whole: Ints = (draws * counts).astype(np.int64)
    return whole


def passages(corpus: Corpus, windows: Spans, draws: Uniforms, size: int | None) -> Spans:
    """A passage of each window's document, which holds the window or lies in it.

    One that is d tokens longer than the window begins 0 to d tokens before it; one that is d tokens
    shorter begins 0 to d after its start. The document's ends push it back inside.

    Args:
        corpus: of the windows.
        windows: the samples.
        draws: shape (samples).
        size: tokens of a passage; a shorter document is one. None: whole documents.
    """
    first, last = corpus.document_bounds(windows.datasets, windows.documents)
    lengths = last - first if size is None else np.minimum(size, last - first)
    slack = lengths - windows.lengths  # below 0: the passage lies in the window
    shifts = below(draws, abs(slack) + 1)
    starts = windows.starts + np.where(slack > 0, -shifts, shifts)
    return Spans(
        windows.datasets, windows.documents, np.clip(starts, first, last - lengths), lengths
    )


def spans_within(passages: Spans, draws: Uniforms, shortest: int, longest: int) -> Spans:
    """A span of each passage, of a length at random up to half of it.

    Args:
        passages: to choose from.
        draws: shape (2, samples).
        shortest: tokens; of a passage with fewer than twice as many, half of it.
        longest: tokens.
    """
    most = np.clip(passages.lengths // 2, 1, longest)
    least = np.minimum(shortest, most)
    lengths = least + below(draws[0], most - least + 1)
    starts = passages.starts + below(draws[1], passages.lengths - lengths + 1)
    return passages._replace(starts=starts, lengths=lengths)


def where(chosen: NDArray[np.bool_], spans: Spans, others: Spans) -> Spans:
    """The spans where `chosen`, elsewhere the others."""
    return Spans(*(np.where(chosen, one, other) for one, other in zip(spans, others, strict=True)))


def text_columns(
    corpus: Corpus, columns: list[Spans], *, num_fallback: int = 0, groups: Ints | None = None
) -> TextColumns:
    """Read spans as the columns of samples.

    Args:
        corpus: of the spans.
        columns: each with one of every sample.
        num_fallback: for the log.
        groups: shape (samples): texts of samples of one group count as equal. None: equal ones do.
    """
    spans = Spans(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))
    texts = corpus.read(spans)
    shape = (len(columns), -1)
    if groups is None:
        groups = text_hashes(texts.tokens, texts.lengths)
    else:
        groups = np.tile(groups, len(columns))
    return TextColumns(
        tokens=texts.tokens.reshape(*shape, texts.tokens.shape[1]),
        lengths=texts.lengths.reshape(shape),
        text_groups=groups.reshape(shape),
        datasets=texts.datasets.reshape(shape),
        dataset_names=corpus.names,
        documents=corpus.document_ids(texts),
        num_fallback=num_fallback,
    )
