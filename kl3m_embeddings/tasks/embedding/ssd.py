"""Same, similar, different: four texts whose kinship is known from where they stand.

1. `a` is the sample's own text.
2. `a'` is another text of the same document, and has no token in common with `a`. Where there is no
   room for one of half its length, `a'` is a random part of the document: a fallback.
3. `b` is a text of another document of the same dataset. In a dataset of a single document it is a
   random part of that: a fallback, too.
4. `c` is a text of another dataset, chosen by the datasets' weights.

The loss, and where it comes from: losses/ssd.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kl3m_embeddings.config.tasks import SsdOptions
from kl3m_embeddings.data.batch import PairTargets
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.data.samples.corpus import Corpus, Spans
from kl3m_embeddings.errors import ConfigError
from kl3m_embeddings.losses.base import Compared, PairLoss
from kl3m_embeddings.losses.build import build_loss
from kl3m_embeddings.losses.ssd import mean_similarities
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask, TextColumns
from kl3m_embeddings.tasks.embedding.spans import (
    Ints,
    Uniforms,
    below,
    passages,
    text_columns,
    where,
)

NUM_DRAWS = 11  # for each sample; `columns` says which is for what


class SameSimilarDifferent(EmbeddingTask[TextSource, SsdOptions]):
    """`ssd`: texts of one document, of one dataset and of two are a quad."""

    name = "ssd"

    @staticmethod
    def new_loss(_: SsdOptions, compared: Compared) -> PairLoss:
        """The one loss that takes quads."""
        return build_loss("ssd", {}, compared, "tasks.ssd")

    def columns(self, source: TextSource, first_sample: int, count: int) -> TextColumns:
        """Texts a, a', b and c.

        Raises:
            ConfigError: there is one dataset only.
        """
        corpus, size = source.corpus, self.seq_len - source.tokenizer.num_special
        check_datasets(corpus.names)
        windows = corpus.locate(first_sample, count)
        key = derive_key(source.seed, self.name)
        draws = random_uniform(key, first_sample, count, NUM_DRAWS).T
        text = passages(corpus, windows, draws[0], size)
        document = passages(corpus, windows, draws[0], None)
        same, has_room = text_beside(text, document, draws[1])
        same = where(has_room, same, part_of(document, draws[2:4], size))
        similar, has_others = windows_of(corpus, text.datasets, draws[4], but=text.documents)
        similar = passages(corpus, similar, draws[5], size)
        similar = where(has_others, similar, part_of(document, draws[6:8], size))
        others, _ = windows_of(corpus, other_datasets(corpus, text.datasets, draws[8]), draws[9])
        different = passages(corpus, others, draws[10], size)
        columns = [text, same, similar, different]
        num_fallback = int((~(has_room & has_others)).sum())
        return text_columns(corpus, columns, num_fallback=num_fallback)

    def measures(
        self, embeddings: Float[Tensor, "columns pairs dim"], targets: PairTargets
    ) -> dict[str, Tensor]:
        """Mean similarities of the three kinds."""
        return mean_similarities(embeddings, self.similarity)


def check_datasets(names: Sequence[str]) -> None:
    """Check that there are datasets enough.

    Raises:
        ConfigError: there is one only.
    """
    if len(names) < 2:
        raise ConfigError(
            f"tasks: ssd compares the texts of several datasets, and there is {names[0]} only: "
            "name a second one in data, or train crop instead"
        )


def text_beside(text: Spans, document: Spans, draws: Uniforms) -> tuple[Spans, NDArray[np.bool_]]:
    """A text of the same document without a token of this one, and whether there is room for it.

    It is as long as `text`, or all that there is on one side of it, if that is half as long. Of a
    document of 10 tokens and a text of 3 from token 4 on, there are 2 starts before it (0 and 1)
    and 1 behind it (7); one of the three is drawn.

    Args:
        text: of the document.
        document: all of it.
        draws: shape (samples).
    """
    ends = text.starts + text.lengths
    before = text.starts - document.starts
    behind = document.starts + document.lengths - ends
    lengths = np.minimum(np.maximum(before, behind), text.lengths)
    num_before = np.maximum(before - lengths + 1, 0)
    num_behind = np.maximum(behind - lengths + 1, 0)
    index = below(draws, num_before + num_behind)
    starts = np.where(index < num_before, document.starts + index, ends + index - num_before)
    return text._replace(starts=starts, lengths=lengths), 2 * lengths >= text.lengths


def part_of(document: Spans, draws: Uniforms, size: int) -> Spans:
    """A random part of a document, at least half as long as a text of it and not as long.

    Args:
        document: all of it; of one that is a single token, the part is that.
        draws: shape (2, samples).
        size: tokens of a text.
    """
    longest = np.minimum(document.lengths, size)
    least = (longest + 1) // 2
    lengths = least + below(draws[0], np.maximum(longest - least, 1))
    starts = document.starts + below(draws[1], document.lengths - lengths + 1)
    return document._replace(starts=starts, lengths=lengths)


def windows_of(
    corpus: Corpus, datasets: Ints, draws: Uniforms, but: Ints | None = None
) -> tuple[Spans, NDArray[np.bool_]]:
    """A random window of each of the datasets, and whether there was one to choose.

    Args:
        corpus: of the datasets.
        datasets: shape (samples).
        draws: shape (samples).
        but: shape (samples): a document of which the window is not.
    """
    documents, starts = np.empty_like(datasets), np.empty_like(datasets)
    has_any = np.ones(len(datasets), dtype=np.bool_)
    for dataset in np.unique(datasets):
        rows, index = datasets == dataset, corpus.indices[dataset]
        first = skipped = np.zeros(int(rows.sum()), dtype=np.int64)
        if but is not None:
            first = index.first_windows[but[rows]]
            skipped = index.first_windows[but[rows] + 1] - first
        # One of the windows that are left, counted past those of the document that it must not be.
        chosen = below(draws[rows], index.num_windows - skipped)
        has_any[rows] = skipped < index.num_windows
        chosen += np.where((chosen >= first) & has_any[rows], skipped, 0)
        documents[rows], starts[rows] = index.locate(chosen)
    return corpus.window_spans(datasets, documents, starts), has_any


def other_datasets(corpus: Corpus, datasets: Ints, draws: Uniforms) -> Ints:
    """Another dataset than each of these, as likely as its weight among the others."""
    weights = np.tile(corpus.order.weights, (len(datasets), 1))
    weights[np.arange(len(datasets)), datasets] = 0.0
    # The first dataset whose weights, summed up to it, exceed a share drawn of all of them.
    sums = np.cumsum(weights, axis=1)
    others: Ints = np.argmax(sums > draws[:, None] * sums[:, -1:], axis=1)
    return others
