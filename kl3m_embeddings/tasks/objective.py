"""The one module that is trained: the encoder, and the heads and losses that tasks add to it.

A forward pass gives losses of masked tokens or embeddings. What compares embeddings is a module of
its own (`losses`), kept here for the parameters it may have.
"""

from collections.abc import Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.masked_encoder import MaskedEncoder
from kl3m_embeddings.tasks.base import Outputs


class Objective(nn.Module):
    """Encoder, heads and losses."""

    def __init__(
        self,
        encoder: MaskedEncoder,
        *,
        pair_head: bool,
        embedding_head: EmbeddingHead | None = None,
        losses: Mapping[str, nn.Module] | None = None,
        seed: int = 0,
    ) -> None:
        """Wrap `encoder`.

        Args:
            encoder: what is exported.
            pair_head: whether a task tells pairs of segments apart.
            embedding_head: from tokens to texts; exported, too. None: the mean.
            losses: of the embedding tasks, by task.
            seed: of the pair head's weights.
        """
        super().__init__()
        self.encoder = encoder
        self.pair_head = _linear(encoder, seed) if pair_head else None
        self.embedding_head = embedding_head or EmbeddingHead(encoder.hidden_size)
        self.losses = nn.ModuleDict(losses)

    def forward(self, batch: Batch, autocast_dtype: torch.dtype = torch.float32) -> Outputs:
        """Losses summed over this batch's targets, or its embeddings; in float32.

        Args:
            batch: on the objective's device.
            autocast_dtype: of matrix products, where the weights are of another; float32: theirs.
        """
        device = batch.input_ids.device.type
        with (
            torch.autocast(device, autocast_dtype)
            if autocast_dtype != torch.float32
            else nullcontext()
        ):
            return self._outputs(batch)

    def _outputs(self, batch: Batch) -> Outputs:
        inputs = batch.input_ids, batch.attention_mask, batch.embedding_mask
        positions, labels = batch.target_positions, batch.target_labels
        if positions is None or labels is None:
            hidden_states = self.encoder.hidden_states(*inputs)
            return Outputs(embeddings=self.embedding_head(hidden_states, batch.attention_mask))
        if batch.segment_labels is not None:
            positions = torch.cat([positions, first_positions(batch.input_ids)])
        states = self.encoder.hidden_states(*inputs, positions, batch.bounds)
        target_losses, correct = self.encoder.masked_lm_loss(states[: len(labels)], labels)
        loss_sums = {"mlm": target_losses.sum()}
        if batch.segment_labels is not None:
            loss_sums["nsp"] = self._segment_loss(states[len(labels) :], batch.segment_labels)
        return Outputs(loss_sums=loss_sums, target_losses=target_losses, num_correct=correct.sum())

    def _segment_loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy of the pair head, summed over the labels that are known."""
        assert self.pair_head is not None
        logits = self.pair_head(states)[:, 0].float()
        known = ~labels.isnan()
        losses = F.binary_cross_entropy_with_logits(
            logits, torch.where(known, labels, 0.0), reduction="none"
        )
        return torch.where(known, losses, 0.0).sum()


def first_positions(
    input_ids: Int[Tensor, "batch length"],
) -> Int[Tensor, " batch"]:
    """Flat positions of the rows' first tokens."""
    batch, length = input_ids.shape
    return torch.arange(batch, device=input_ids.device) * length


def _linear(encoder: MaskedEncoder, seed: int) -> nn.Linear:
    """A binary head on the first token, initialised as the encoder is."""
    head = nn.Linear(encoder.hidden_size, 1)
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(encoder.config, "initializer_range", 0.02))
    nn.init.normal_(head.weight, std=deviation, generator=generator)
    nn.init.zeros_(head.bias)
    return head
