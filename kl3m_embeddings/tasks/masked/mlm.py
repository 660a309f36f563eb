"""Masked language modelling: some tokens are hidden, and predicted from the others.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805
"""

from dataclasses import dataclass

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.tasks.base import (
    TextSource,
    assemble,
    framed,
)
from kl3m_embeddings.tasks.masked.base import MaskedTask
from kl3m_embeddings.tasks.masked.masking import mask_tokens, max_budget
from kl3m_embeddings.tasks.masked.packed import packed_batch


@dataclass(frozen=True)
class MaskedLanguageModelling(MaskedTask[MlmOptions]):
    """`mlm`: some tokens are hidden, chosen at random, in words or in spans."""

    def batch(self, source: TextSource, first_sample: int, count: int) -> Batch:
        """Windows with `mask_rate` of their tokens to predict."""
        if self.options.pack:
            return packed_batch(source, first_sample, count, self.options)
        windows = source.corpus.windows(first_sample, count)
        input_ids, attention_mask = framed(
            source.tokenizer, windows.tokens, windows.lengths, source.max_length
        )
        maskable = attention_mask.astype(bool)
        maskable[:, 0] = False  # [CLS]
        maskable[range(count), windows.lengths + 1] = False  # [SEP]
        corrupted, labels = mask_tokens(source, input_ids, maskable, first_sample, self.options)
        return assemble(
            source,
            windows,
            task="mlm",
            input_ids=corrupted,
            attention_mask=attention_mask,
            labels=labels,
            targets_per_sample=max_budget(source.corpus.window, self.options.mask_rate),
        )
