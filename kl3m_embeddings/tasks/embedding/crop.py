"""Cropping: two random spans of one document are a pair.

1. A passage is chosen around the sample's window, so that every part of a document has its turn.
2. Two spans of it are chosen independently, of lengths between `min_tokens` and half the passage,
   as far as a text may be long. They may overlap: then words have to match, too.
3. Other spans of the same document, or of an equal one, are no negatives.

Contriever: Izacard et al. 2022, https://arxiv.org/abs/2112.09118
"""

from kl3m_embeddings.config.tasks import CropOptions
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.losses.base import Compared, PairLoss
from kl3m_embeddings.losses.build import chosen_loss
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask, TextColumns
from kl3m_embeddings.tasks.embedding.spans import passages, spans_within, text_columns


class Crop(EmbeddingTask[TextSource, CropOptions]):
    """`crop`: two spans of one passage are a pair."""

    name = "crop"

    @staticmethod
    def new_loss(options: CropOptions, compared: Compared) -> PairLoss:
        """The loss that the options name."""
        return chosen_loss("crop", options.loss, compared)

    def columns(self, source: TextSource, first_sample: int, count: int) -> TextColumns:
        """Two spans of each sample's document; where they are one span, it is a fallback."""
        corpus, options = source.corpus, self.options
        windows = corpus.locate(first_sample, count)
        draws = random_uniform(derive_key(source.seed, self.name), first_sample, count, 5).T
        chosen = passages(corpus, windows, draws[0], options.passage_tokens)
        longest = self.seq_len - source.tokenizer.num_special
        anchor = spans_within(chosen, draws[1:3], options.min_tokens, longest)
        positive = spans_within(chosen, draws[3:5], options.min_tokens, longest)
        equal = (anchor.starts == positive.starts) & (anchor.lengths == positive.lengths)
        groups = corpus.document_hashes(windows.datasets, windows.documents)
        return text_columns(
            corpus, [anchor, positive], num_fallback=int(equal.sum()), groups=groups
        )
