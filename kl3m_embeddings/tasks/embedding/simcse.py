"""SimCSE: a text is its own positive, and only the dropout masks differ.

Both copies are rows of one batch. Masks are drawn for each row, so no two rows have the same.

Gao et al. 2021, https://arxiv.org/abs/2104.08821
"""

from kl3m_embeddings.config.tasks import SimcseOptions
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.losses.base import Compared, PairLoss
from kl3m_embeddings.losses.build import chosen_loss
from kl3m_embeddings.tasks.base import TextSource
from kl3m_embeddings.tasks.embedding.base import EmbeddingTask, TextColumns
from kl3m_embeddings.tasks.embedding.spans import passages, text_columns


class SimCSE(EmbeddingTask[TextSource, SimcseOptions]):
    """`simcse`: a text and itself are a pair."""

    name = "simcse"

    @staticmethod
    def new_loss(options: SimcseOptions, compared: Compared) -> PairLoss:
        """The loss that the options name."""
        return chosen_loss("simcse", options.loss, compared)

    def columns(self, source: TextSource, first_sample: int, count: int) -> TextColumns:
        """The text of each sample, twice; two texts of a document are each other's negatives."""
        windows = source.corpus.locate(first_sample, count)
        draws = random_uniform(derive_key(source.seed, self.name), first_sample, count, 1)
        texts = passages(
            source.corpus, windows, draws[:, 0], self.seq_len - source.tokenizer.num_special
        )
        return text_columns(source.corpus, [texts, texts])
