"""DeBERTa-v2/v3: transformers' parameters and mathematics, without its repeats and gathers.

Attention is disentangled: beside content-to-content scores there are content-to-position and
position-to-content ones, from one table of embeddings of (bucketed) relative offsets,

    score[q, k] = (Q[q]·K[k] + Q[q]·PK[q-k] + K[k]·PQ[q-k]) / sqrt(head_size * num_terms),

Q, K the projected content of tokens, PK and PQ the projected embeddings of offsets.

Three steps make it fast:

1. The table is expanded to one row for each of the 2L-1 offsets and projected once a layer, not
   once a sequence.
2. `attention.py` reads the position scores as a shifted view of a matrix product with that table.
3. Where only some positions are wanted, as in masked-language modelling, the last layer's
   projection and feed-forward, and the vocabulary's logits (`heads.py`), run at those only.

Module names equal those of transformers' `DebertaV2ForMaskedLM`, so a state dict loads both ways;
hidden states agree at every position that is not padding.

Dimensions: B batch, L length, R = 2 L - 1 offsets, h hidden size.

He et al., DeBERTa (https://arxiv.org/abs/2006.03654); DeBERTaV3 (https://arxiv.org/abs/2111.09543).
"""

from functools import lru_cache, partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DebertaV2Config
from transformers.activations import ACT2FN

from kl3m_embeddings.encoder.deberta.layers import Convolution, Layer
from kl3m_embeddings.encoder.kernels.dropout import Dropout, contexts_of_recomputation
from kl3m_embeddings.encoder.kernels.native_library import serves
from kl3m_embeddings.encoder.kernels.precision import compute_dtype
from kl3m_embeddings.encoder.kernels.sequences import Sequences


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def offset_rows(
    length: int, num_buckets: int, max_offset: int, device: torch.device
) -> Int[Tensor, " offsets"]:
    """The row of the relative embeddings for each offset d = q-k, from length-1 down to 1-length.

    Near offsets have a row each, and farther ones share rows that widen logarithmically: how near
    words stand matters exactly, how far away they are roughly. With n buckets and m = n / 2

        bucket(d) = d                                                            where |d| <= m
                    sign(d) (m + ceil((m - 1) log(|d| / m) / log((max_offset - 1) / m)))   beyond

    and the row is bucket(d) + n, clamped to 0..2 n - 1. With n = 256 and max_offset = 512: 100 has
    row 356, 200 has bucket 169, 210 has 174 as 211 has, and 511 has 255. Without buckets there is a
    row for each offset up to `max_offset`.
    """
    offset = torch.arange(length - 1, -length, -1, device=device)
    span = num_buckets if num_buckets > 0 else max_offset
    if num_buckets > 0:
        middle = num_buckets // 2
        distance = offset.abs().clamp(min=middle)
        log_ratio = torch.log(distance / middle) / torch.log(
            torch.tensor((max_offset - 1) / middle)
        )
        bucket = (torch.ceil(log_ratio * (middle - 1)) + middle) * offset.sign()
        offset = torch.where(offset.abs() <= middle, offset, bucket.long())
    return (offset + span).clamp(0, 2 * span - 1)


class Embeddings(nn.Module):
    """Word (and absolute position, and token type) embeddings, normalised, zero at padding."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        size = getattr(config, "embedding_size", config.hidden_size)
        self.word_embeddings = nn.Embedding(config.vocab_size, size, config.pad_token_id)
        self.position_embeddings = (
            nn.Embedding(config.max_position_embeddings, size)
            if config.position_biased_input
            else None
        )
        self.token_type_embeddings = (
            nn.Embedding(config.type_vocab_size, size) if config.type_vocab_size > 0 else None
        )
        # From word embeddings of another width to the hidden size.
        self.embed_proj = (
            nn.Linear(size, config.hidden_size, bias=False) if size != config.hidden_size else None
        )
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self, input_ids: Int[Tensor, "batch length"], attention_mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length hidden"]:
        """Embed tokens; every token is of type 0."""
        hidden: Tensor = self.word_embeddings(input_ids)
        if self.position_embeddings is not None:
            hidden = hidden + self.position_embeddings.weight[: input_ids.shape[1]]
        if self.token_type_embeddings is not None:
            hidden = hidden + self.token_type_embeddings.weight[0]
        if self.embed_proj is not None:
            hidden = self.embed_proj(hidden)
        hidden = self.dropout(self.LayerNorm(hidden)) * attention_mask[..., None]
        # what the native kernels take; elsewhere the residual stream stays in float32
        rounded = hidden.to(compute_dtype(hidden))
        return rounded if serves(rounded) else hidden


class Encoder(nn.Module):
    """The stack of layers and the relative embeddings they share.

    With `gradient_checkpointing` a layer keeps its input alone for the backward pass, which runs it
    again with the same random numbers (https://arxiv.org/abs/1604.06174).
    """

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.conv = Convolution(config) if getattr(config, "conv_kernel_size", 0) > 0 else None
        self.num_buckets = getattr(config, "position_buckets", -1)
        self.max_offset = getattr(config, "max_relative_positions", -1)
        if self.max_offset < 1:
            self.max_offset = config.max_position_embeddings
        if config.relative_attention:
            span = self.num_buckets if self.num_buckets > 0 else self.max_offset
            self.rel_embeddings = nn.Embedding(2 * span, config.hidden_size)
        if "layer_norm" in getattr(config, "norm_rel_ebd", "none").lower():
            self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(
        self,
        embeddings: Float[Tensor, "batch length hidden"],
        sequences: Sequences,
        positions: Int[Tensor, " positions"] | None,
    ) -> Float[Tensor, "batch length hidden"] | Float[Tensor, "positions hidden"]:
        """Run all layers; the last ends at `positions` only."""
        relative = rows = None
        if hasattr(self, "rel_embeddings"):
            relative = self.rel_embeddings.weight
            relative = self.LayerNorm(relative) if hasattr(self, "LayerNorm") else relative
            rows = offset_rows(
                embeddings.shape[1], self.num_buckets, self.max_offset, embeddings.device
            )
        hidden = embeddings
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        last = len(self.layer) - 1
        for index, layer in enumerate(self.layer):
            inputs = hidden, sequences, relative, rows, positions if index == last else None
            hidden = recomputed(layer, *inputs) if recompute else layer(*inputs)
            if index == 0 and self.conv is not None:
                hidden = self.conv(embeddings, hidden, sequences.attention_mask)
        return hidden


def recomputed(layer: nn.Module, *inputs: object) -> Tensor:
    """The layer's output, for which the backward pass runs the layer again."""
    # Bound first: as an argument of the call itself a compiler does not take it.
    run = partial(checkpoint, use_reentrant=False, context_fn=contexts_of_recomputation)
    output: Tensor = run(layer, *inputs)
    return output


class DebertaV2Model(nn.Module):
    """Tokens to hidden states."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Bool[Tensor, "batch length"],
        embedding_mask: Float[Tensor, " hidden"] | None = None,
        positions: Int[Tensor, " positions"] | None = None,
        bounds: Int[Tensor, "sequences 2"] | None = None,
    ) -> Float[Tensor, "batch length hidden"] | Float[Tensor, "positions hidden"]:
        """Encode, at flat `positions` only if given; `embedding_mask` scales the embeddings.

        `bounds` are those of packed documents; None: each row is one.
        """
        hidden: Tensor = self.embeddings(input_ids, attention_mask)
        if embedding_mask is not None:
            hidden = hidden * embedding_mask.to(hidden.dtype)
        encoded: Tensor = self.encoder(hidden, Sequences.of(attention_mask, bounds), positions)
        return encoded


class HeadTransform(nn.Module):
    """The part of the masked-language head before the vocabulary: LayerNorm(act(W x + b))."""

    def __init__(self, size: int, config: DebertaV2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(size, config.layer_norm_eps)

    def forward(self, hidden: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows embedding"]:
        """Turn hidden states into the space of the word embeddings."""
        states: Tensor = self.LayerNorm(self.activation(self.dense(hidden)))
        return states


class DebertaV2ForMaskedLM(nn.Module):
    """The model and the parameters of its masked-language head; `heads.py` applies the head."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__()
        self.config = config
        self.deberta = DebertaV2Model(config)
        words = self.deberta.embeddings.word_embeddings
        transform = HeadTransform(words.embedding_dim, config)
        if config.legacy:
            decoder = nn.Linear(words.embedding_dim, config.vocab_size)
            if config.tie_word_embeddings:
                decoder.weight = words.weight
            predictions = nn.ModuleDict({"transform": transform, "decoder": decoder})
            predictions.bias = decoder.bias
            self.cls = nn.ModuleDict({"predictions": predictions})
        else:
            transform.bias = nn.Parameter(torch.zeros(config.vocab_size))
            self.lm_predictions = nn.ModuleDict({"lm_head": transform})

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        """Names in the state dict that are other names' tensors, by transformers' convention."""
        if not (self.config.legacy and self.config.tie_word_embeddings):
            return {}
        return {
            "cls.predictions.decoder.bias": "cls.predictions.bias",
            "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        }

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the weights as transformers does: normal, with zero biases and padding row."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d)):
                nn.init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, (nn.Linear, nn.Conv1d)) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if self.config.pad_token_id is not None:
            self.deberta.embeddings.word_embeddings.weight[self.config.pad_token_id] = 0
