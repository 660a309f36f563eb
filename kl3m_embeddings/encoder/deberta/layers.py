"""The layers of DeBERTa-v2/v3: disentangled self-attention, feed-forward, and XL's convolution.

Names of modules and parameters are transformers'.

Dimensions: B batch, L length, H heads, D size of a head, R = 2 L - 1 offsets, h hidden size.

He et al., DeBERTa: https://arxiv.org/abs/2006.03654
"""

import math

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DebertaV2Config
from transformers.activations import ACT2FN

from kl3m_embeddings.encoder.deberta.attention import disentangled_attention
from kl3m_embeddings.encoder.kernels import native_layers
from kl3m_embeddings.encoder.kernels.dropout import Dropout
from kl3m_embeddings.encoder.kernels.precision import compute_dtype
from kl3m_embeddings.encoder.kernels.sequences import Sequences


class SelfAttention(nn.Module):
    """Disentangled self-attention; with `share_att_key` positions use the content's projections."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        size = config.hidden_size
        self.head_size = size // self.num_heads
        self.query_proj = nn.Linear(size, size)
        self.key_proj = nn.Linear(size, size)
        self.value_proj = nn.Linear(size, size)
        terms = config.pos_att_type or []
        # Each of the terms added has a variance of D where its factors have one of 1.
        self.scale = 1 / math.sqrt(self.head_size * (1 + ("c2p" in terms) + ("p2c" in terms)))
        self.has_c2p = config.relative_attention and "c2p" in terms
        self.has_p2c = config.relative_attention and "p2c" in terms
        self.shares_projections = getattr(config, "share_att_key", False)
        if self.has_c2p and not self.shares_projections:
            self.pos_key_proj = nn.Linear(size, size)
        if self.has_p2c and not self.shares_projections:
            self.pos_query_proj = nn.Linear(size, size)
        self.pos_dropout = Dropout(config.hidden_dropout_prob)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(
        self,
        hidden: Float[Tensor, "batch length hidden"],
        sequences: Sequences,
        relative: Float[Tensor, "rows hidden"] | None,
        rows: Int[Tensor, " offsets"] | None,
    ) -> Float[Tensor, "batch length hidden"]:
        """Attend; `rows` picks, for each offset, its row of the `relative` embeddings."""
        # Once here, where autocast would convert it for each of the three projections.
        hidden = hidden.to(compute_dtype(hidden))
        pos_key = pos_query = None
        if relative is not None and rows is not None:
            offsets = self.pos_dropout.shared(relative).index_select(0, rows)  # Rxh
            shared = self.shares_projections
            if self.has_c2p:
                project = self.key_proj if shared else self.pos_key_proj
                pos_key = self._split(project(offsets)).transpose(0, 1)  # HxRxD
            if self.has_p2c:
                project = self.query_proj if shared else self.pos_query_proj
                pos_query = self._split(project(offsets)).transpose(0, 1)
        context = disentangled_attention(
            self._split(self.query_proj(hidden)),
            self._split(self.key_proj(hidden)),
            self._split(self.value_proj(hidden)),
            pos_key,
            pos_query,
            sequences,
            self.scale,
            self.dropout.rate,
        )
        return context.flatten(2)

    def _split(self, states: Tensor) -> Tensor:
        """...x(H*D) -> ...xHxD."""
        return states.view(*states.shape[:-1], self.num_heads, self.head_size)


class ResidualOutput(nn.Module):
    """Project, drop out, add the residual, normalise."""

    def __init__(self, input_size: int, config: DebertaV2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        states: Float[Tensor, "*rows input"],
        residual: Float[Tensor, "*rows hidden"],
        positions: Int[Tensor, " positions"] | None = None,
    ) -> Float[Tensor, "*rows hidden"]:
        """Return LayerNorm(dropout(dense(states)) + residual); rows are at `positions`, or all."""
        if residual.dtype == states.dtype and native_layers.is_native(states, self.dense):
            drawn = self.dropout.drawn(states, positions)
            rest = self.dense, self.LayerNorm, self.dropout.rate, drawn
            return native_layers.project_add_norm(states, residual, *rest)
        projected = self.dropout(self.dense(states), positions)
        normalised: Tensor = self.LayerNorm(projected + residual)
        return normalised


class Layer(nn.Module):
    """One transformer block, normalised after each half."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        attention = SelfAttention(config)
        output = ResidualOutput(config.hidden_size, config)
        self.attention = nn.ModuleDict({"self": attention, "output": output})
        dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate = nn.ModuleDict({"dense": dense})
        self.activation = ACT2FN[config.hidden_act]
        self.has_gelu = config.hidden_act == "gelu"
        self.output = ResidualOutput(config.intermediate_size, config)

    def forward(
        self,
        hidden: Float[Tensor, "batch length hidden"],
        sequences: Sequences,
        relative: Float[Tensor, "rows hidden"] | None,
        rows: Int[Tensor, " offsets"] | None,
        positions: Int[Tensor, " positions"] | None,
    ) -> Float[Tensor, "batch length hidden"] | Float[Tensor, "positions hidden"]:
        """Attend, then transform each position, or the flat `positions` only."""
        context = self.attention["self"](hidden, sequences, relative, rows)  # BxLxh
        if positions is not None:  # each position is on its own from here on
            context, hidden = (
                states.flatten(0, 1).index_select(0, positions) for states in (context, hidden)
            )
        hidden = self.attention["output"](context, hidden, positions)
        inner, outer = self.intermediate["dense"], self.output
        assert isinstance(inner, nn.Linear)
        if self.has_gelu and native_layers.is_native(hidden, inner):
            drawn = outer.dropout.drawn(hidden, positions)
            rest = outer.dense, outer.LayerNorm, outer.dropout.rate, drawn
            return native_layers.feed_forward(hidden, inner, *rest)
        states = self.activation(inner(hidden))
        output: Tensor = self.output(states, hidden, positions)
        return output


class Convolution(nn.Module):
    """A convolution over the embeddings, added to the first layer's output (DeBERTa-v2 XL)."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        size, width = config.hidden_size, config.conv_kernel_size
        groups = getattr(config, "conv_groups", 1)
        self.conv = nn.Conv1d(size, size, width, padding=(width - 1) // 2, groups=groups)
        self.activation = ACT2FN[getattr(config, "conv_act", "tanh")]
        self.LayerNorm = nn.LayerNorm(size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        embeddings: Float[Tensor, "batch length hidden"],
        hidden: Float[Tensor, "batch length hidden"],
        attention_mask: Bool[Tensor, "batch length"],
    ) -> Float[Tensor, "batch length hidden"]:
        """Add the neighbours' embeddings to `hidden`; padding stays zero."""
        mask = attention_mask[..., None]
        local = self.conv(embeddings.transpose(1, 2)).transpose(1, 2) * mask  # Conv1d takes BxhxL
        hidden = self.LayerNorm(hidden + self.activation(self.dropout(local)))
        return hidden * mask
