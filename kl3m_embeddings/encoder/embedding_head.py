"""What follows the encoder in an embedding model: from tokens' hidden states to a text's vector.

1. Pooling over the tokens (`pooling.py`).
2. Dense layers, if any: sentence-transformers' `Dense`, a linear map and an activation each.
3. Scaling to unit length, if asked.

All of it is fp32, also under autocast and where the weights themselves are bf16: it is little work,
and a bf16 vector has two digits. The parameters are named `dense.<i>.linear.weight` and `.bias`.

Reimers and Gurevych, Sentence-BERT (https://arxiv.org/abs/1908.10084).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kl3m_embeddings.encoder.pooling import POOLINGS
from kl3m_embeddings.errors import ConfigError

# Those without parameters; sentence-transformers names them by their full path in torch.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        nn.ELU,
        nn.GELU,
        nn.Identity,
        nn.LeakyReLU,
        nn.Mish,
        nn.ReLU,
        nn.SELU,
        nn.SiLU,
        nn.Sigmoid,
        nn.Softplus,
        nn.Tanh,
    )
}


@dataclass(frozen=True, kw_only=True)
class DenseSettings:
    """One dense layer; `activation` is a name of ACTIVATIONS."""

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Tanh"


class Float32Linear(nn.Linear):
    """A linear map in fp32, also where an engine holds its weights in less."""

    def forward(self, input: Float[Tensor, "batch from"]) -> Float[Tensor, "batch to"]:
        """W x + b, of weights in fp32."""
        bias = None if self.bias is None else self.bias.float()
        return F.linear(input, self.weight.float(), bias)


class DenseLayer(nn.Module):
    """A linear map and an activation."""

    def __init__(self, settings: DenseSettings) -> None:
        super().__init__()
        self.linear = Float32Linear(settings.in_features, settings.out_features, bias=settings.bias)
        self.activation = ACTIVATIONS[settings.activation]()

    def forward(self, embeddings: Float[Tensor, "batch from"]) -> Float[Tensor, "batch to"]:
        """activation(W x + b)."""
        activated: Tensor = self.activation(self.linear(embeddings))
        return activated


class EmbeddingHead(nn.Module):
    """Pooling, dense layers, and scaling to unit length.

    Attributes:
        pooling: A name of POOLINGS.
        dense_settings: Of the dense layers, in their order.
        normalise: Whether the vectors have length 1.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        pooling: str = "mean",
        dense: Sequence[DenseSettings] = (),
        normalise: bool = False,
    ) -> None:
        """Draw the dense layers as torch does, from its global generator.

        Raises:
            ConfigError: The pooling or an activation is unknown, or sizes do not fit together.
        """
        super().__init__()
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling: {pooling!r} is unknown: use one of {', '.join(POOLINGS)}")
        self.hidden_size = hidden_size
        self.pooling = pooling
        self.normalise = normalise
        self.dense_settings = tuple(dense)
        check_dense(hidden_size, self.dense_settings)
        self.dense = nn.ModuleList(DenseLayer(settings) for settings in self.dense_settings)

    @property
    def embedding_size(self) -> int:
        """Dimensions of a text's vector."""
        return self.dense_settings[-1].out_features if self.dense_settings else self.hidden_size

    def forward(
        self,
        hidden_states: Float[Tensor, "batch length hidden"],
        attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
    ) -> Float[Tensor, "batch dims"]:
        """The texts' vectors, in fp32."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            embeddings = POOLINGS[self.pooling](hidden_states, attention_mask)
            for layer in self.dense:
                embeddings = layer(embeddings)
            return F.normalize(embeddings, dim=-1) if self.normalise else embeddings


def check_dense(hidden_size: int, dense: Sequence[DenseSettings]) -> None:
    """Raise unless each layer takes what the one before it gives."""
    size = hidden_size
    for index, settings in enumerate(dense, start=1):
        if settings.activation not in ACTIVATIONS:
            raise ConfigError(
                f"dense layer {index}: activation {settings.activation!r} is unknown: "
                f"use one of {', '.join(ACTIVATIONS)}"
            )
        if settings.in_features != size:
            raise ConfigError(
                f"dense layer {index}: in_features is {settings.in_features}, but it gets {size}: "
                "it belongs to another encoder, or its layers are in another order"
            )
        size = settings.out_features
