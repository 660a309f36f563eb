"""The one module that is trained: the encoder, and the heads that tasks add to it.

Every loss is computed inside `forward`, so that an engine can hook the whole of it.
"""

import torch
import torch.nn.functional as F
from torch import nn

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.encoder.build import MaskedEncoder
from kl3m_embeddings.tasks.base import Outputs


class Objective(nn.Module):
    """Encoder and heads; a forward pass gives every loss that the batch has targets for."""

    def __init__(self, encoder: MaskedEncoder, *, pair_head: bool, seed: int = 0) -> None:
        """Wrap `encoder`.

        Args:
            encoder: what is exported.
            pair_head: whether a task tells pairs of segments apart.
            seed: of the head's weights.
        """
        super().__init__()
        self.encoder = encoder
        self.pair_head = _linear(encoder, seed) if pair_head else None

    def forward(self, batch: Batch) -> Outputs:
        """Losses summed over the targets of this batch, in float32."""
        hidden_states = self.encoder.hidden_states(
            batch.input_ids, batch.attention_mask, batch.embedding_mask
        )
        target_losses, correct = self.encoder.masked_lm_loss(
            hidden_states, batch.target_positions, batch.target_labels
        )
        loss_sums = {"mlm": target_losses.sum()}
        if batch.pair_labels is not None:
            assert self.pair_head is not None
            logits = self.pair_head(hidden_states[:, 0])[:, 0].float()
            known = ~batch.pair_labels.isnan()
            losses = F.binary_cross_entropy_with_logits(
                logits, torch.where(known, batch.pair_labels, 0.0), reduction="none"
            )
            loss_sums["nsp"] = torch.where(known, losses, 0.0).sum()
        return Outputs(loss_sums=loss_sums, target_losses=target_losses, num_correct=correct.sum())


def _linear(encoder: MaskedEncoder, seed: int) -> nn.Linear:
    """A binary head on the first token, initialised as the encoder is."""
    head = nn.Linear(encoder.hidden_size, 1)
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(encoder.config, "initializer_range", 0.02))
    nn.init.normal_(head.weight, std=deviation, generator=generator)
    nn.init.zeros_(head.bias)
    return head
