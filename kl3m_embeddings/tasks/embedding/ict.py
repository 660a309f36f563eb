"""Inverse cloze: a sentence is the query of the passage that it was taken from.

1. A whole sentence is chosen at random, of those about the sample's window that have at least
   `min_sentence_tokens`, and half as many of them with letters: neither a number nor a dotted line
   is a query.
2. It is taken out of the text, but left in with probability `keep_rate`, so that a query's own
   words count for something, too.
3. The passage is what stands around that place, as many tokens as a text may have.
4. Without such a sentence, or with less than that beside it, two random spans as in `crop` are the
   pair: a fallback.

Where sentences end: sentences.py. Lee et al. 2019, https://arxiv.org/abs/1906.00300
"""

import numpy as np
from numpy.typing import NDArray

from kl3m_embeddings.config.tasks import IctOptions
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.data.samples.corpus import Spans, Windows
from kl3m_embeddings.losses.base import Compared, PairLoss
from kl3m_embeddings.losses.build import chosen_loss
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask, TextColumns
from kl3m_embeddings.tasks.embedding.sentences import sentence_lengths, token_marks
from kl3m_embeddings.tasks.embedding.spans import (
    Ints,
    Uniforms,
    below,
    passages,
    spans_within,
    where,
)
from kl3m_embeddings.tasks.masked.nsp import shifted

CONTEXT_TEXTS = 2
"""Sentences are looked for in a stretch of so many texts."""


class InverseCloze(EmbeddingTask[TextSource, IctOptions]):
    """`ict`: a sentence and the passage around it are a pair."""

    name = "ict"

    @staticmethod
    def new_loss(options: IctOptions, compared: Compared) -> PairLoss:
        """The loss that the options name."""
        return chosen_loss("ict", options.loss, compared)

    def columns(self, source: TextSource, first_sample: int, count: int) -> TextColumns:
        """Sentences, and the rest of their passages."""
        corpus, size = source.corpus, self.seq_len - source.tokenizer.num_special
        windows = corpus.locate(first_sample, count)
        draws = random_uniform(derive_key(source.seed, self.name), first_sample, count, 8).T
        context = passages(corpus, windows, draws[0], CONTEXT_TEXTS * size)
        read = corpus.read(context)
        sentence, found = self._sentences(source, context, read, draws[1])
        crops = [
            spans_within(context, pair, self.options.min_sentence_tokens, size)
            for pair in draws[2:6].reshape(2, 2, -1)
        ]
        # How many of the sentence's tokens leave the text: all or, at keep_rate, none.
        taken = np.where(found & (draws[6] >= self.options.keep_rate), sentence.lengths, 0)
        rest = passage_around(context, sentence, taken, draws[7], size)
        anchor, positive = where(found, sentence, crops[0]), where(found, rest, crops[1])
        left = without(read.tokens, sentence.starts - context.starts, taken)
        tokens = [
            shifted(read.tokens, anchor.starts - context.starts),
            shifted(left, positive.starts - context.starts),
        ]
        groups = corpus.document_hashes(windows.datasets, windows.documents)
        return TextColumns(
            tokens=np.stack(tokens),
            lengths=np.stack([anchor.lengths, positive.lengths]),
            text_groups=np.stack([groups, groups]),
            datasets=np.stack([windows.datasets, windows.datasets]),
            dataset_names=corpus.names,
            documents=corpus.document_ids(windows),
            num_fallback=int((~found).sum()),
        )

    def _sentences(
        self, source: TextSource, context: Spans, read: Windows, draws: Uniforms
    ) -> tuple[Spans, NDArray[np.bool_]]:
        """A sentence of each context that may be a query, and whether there is one."""
        first, last = source.corpus.document_bounds(context.datasets, context.documents)
        lengths = sentence_lengths(
            source.tokenizer,
            read.tokens,
            read.lengths,
            at_start=context.starts == first,
            at_end=context.starts + context.lengths == last,
        )
        has_letters = token_marks(source.tokenizer).has_letters[read.tokens]
        is_query = (lengths >= self.options.min_sentence_tokens) & (
            lengths <= self.seq_len - source.tokenizer.num_special
        )
        is_query &= context.lengths[:, None] - lengths >= self.options.min_sentence_tokens
        is_query &= 2 * counts_from(has_letters, lengths) >= self.options.min_sentence_tokens
        index = below(draws, is_query.sum(axis=1))  # among the row's sentences
        columns = np.argmax(np.cumsum(is_query, axis=1) > index[:, None], axis=1)
        chosen = lengths[np.arange(len(lengths)), columns]
        found: NDArray[np.bool_] = np.any(is_query, axis=1)
        return context._replace(starts=context.starts + columns, lengths=chosen), found


def passage_around(
    context: Spans, sentence: Spans, taken: Ints, draws: Uniforms, size: int
) -> Spans:
    """Text around a sentence, in positions of the context after its tokens were taken out.

    With a context of 10 tokens, a sentence of 3 from token 4 on, all taken, and a size of 4: of the
    7 tokens left, the gap is before token 4. The passage begins at 0 to 3, and has the gap in it or
    at an end of it.

    Args:
        context: holds the sentence.
        sentence: stands in the passage, or did.
        taken: all of the sentence's tokens, or none of them.
        draws: of where the passage begins.
        size: tokens of the passage; all of a shorter context.
    """
    lengths = np.minimum(context.lengths - taken, size)
    left = sentence.lengths - taken  # of the sentence
    first = np.maximum(sentence.starts + left - lengths, context.starts)
    last = np.minimum(sentence.starts, context.starts + context.lengths - taken - lengths)
    return context._replace(starts=first + below(draws, last - first + 1), lengths=lengths)


def counts_from(flags: NDArray[np.bool_], lengths: Ints) -> Ints:
    """How many flags are true from each column on, over that column's length."""
    # Counts up to a column, one more than there are: the difference of two is that of a stretch.
    before = np.pad(np.cumsum(flags, axis=1), ((0, 0), (1, 0)))
    ends = np.arange(flags.shape[1]) + lengths
    counts: Ints = np.take_along_axis(before, ends, axis=1) - before[:, :-1]
    return counts


def without(tokens: Ints, starts: Ints, lengths: Ints) -> Ints:
    """Each row without some tokens of it; what comes in at the right has no meaning."""
    columns = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    columns = columns + np.where(columns >= starts[:, None], lengths[:, None], 0)
    return np.take_along_axis(tokens, np.minimum(columns, tokens.shape[1] - 1), axis=1)
