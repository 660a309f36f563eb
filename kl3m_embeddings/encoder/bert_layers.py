"""The layers of transformers' BERT and its kin, by our kernels for the CPU where they run.

Their two halves are those of DeBERTa's: `native_layers.py` says what is computed. Elsewhere (in
float32, on other devices, without a compiler) it is transformers' own code, as before. Classes are
exchanged for children of theirs, so that parameters and their names stay as they are.
"""

from functools import cache
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from kl3m_embeddings.encoder.dropout import Dropout
from kl3m_embeddings.encoder.heads import Network
from kl3m_embeddings.encoder.native_layers import feed_forward, is_native, project_add_norm

BERT_TYPES = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})


def use_native_layers(network: Network) -> None:
    """Let the layers of a network of BERT_TYPES take the kernels where they serve; in place."""
    has_gelu = network.config.hidden_act == "gelu"
    for layer in network.base_model.encoder.layer:
        residual = layer.attention.output
        residual.__class__ = native_residual(type(residual))  # type: ignore[arg-type]
        if has_gelu:
            layer.__class__ = native_layer(type(layer))  # type: ignore[arg-type]


def rate(dropout: nn.Module) -> float:
    """The rate in force."""
    return dropout.rate if isinstance(dropout, Dropout) else 0.0


@cache
def native_residual(kind: type[nn.Module]) -> type[nn.Module]:
    """A child of BertSelfOutput, or of its like."""

    class NativeResidual(kind):  # type: ignore[misc, valid-type]
        """Project, drop out, add the residual, normalise."""

        def forward(
            self,
            hidden_states: Float[Tensor, "*rows input"],
            input_tensor: Float[Tensor, "*rows hidden"],
        ) -> Any:  # noqa: ANN401 - Float[Tensor, "*rows hidden"]
            """Of the attention's context and what went into the attention."""
            same = hidden_states.dtype == input_tensor.dtype
            if not (same and is_native(hidden_states, self.dense)):
                return super().forward(hidden_states, input_tensor)
            return project_add_norm(
                hidden_states, input_tensor, self.dense, self.LayerNorm, rate(self.dropout)
            )

    return NativeResidual


@cache
def native_layer(kind: type[nn.Module]) -> type[nn.Module]:
    """A child of BertLayer, or of its like."""

    class NativeLayer(kind):  # type: ignore[misc, valid-type]
        """Its second half is one function."""

        def feed_forward_chunk(self, attention_output: Float[Tensor, "*rows hidden"]) -> Any:  # noqa: ANN401
            """Both projections, GELU, residual, norm."""
            inner, outer = self.intermediate.dense, self.output
            if not is_native(attention_output, inner):
                return super().feed_forward_chunk(attention_output)
            return feed_forward(
                attention_output, inner, outer.dense, outer.LayerNorm, rate(outer.dropout)
            )

    return NativeLayer
