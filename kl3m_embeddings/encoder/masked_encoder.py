"""One face for every architecture: hidden states, and the masked-language loss at some of them.

DeBERTa-v2 runs our own fast code (`deberta/`), every other `model_type` transformers' code; the
names of the parameters are transformers' in both cases.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig

from kl3m_embeddings.encoder.deberta.model import DebertaV2ForMaskedLM
from kl3m_embeddings.encoder.heads import MASKED_HEADS, MaskedHead, Network
from kl3m_embeddings.encoder.kernels.dropout import contexts_of_recomputation
from kl3m_embeddings.encoder.kernels.masked_loss import linear_cross_entropy
from kl3m_embeddings.encoder.stock.without_padding import stock_hidden_states
from kl3m_embeddings.errors import ConfigError


class MaskedEncoder(nn.Module):
    """An encoder with, where its architecture has one, a masked-language head.

    Attributes:
        network: The module whose state dict has transformers' names; what is exported.
        config: Its architecture.
        fresh_parameters: Names that a loaded checkpoint did not have, freshly initialised.
    """

    def __init__(
        self,
        network: nn.Module,
        config: PretrainedConfig,
        fresh_parameters: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.fresh_parameters = fresh_parameters
        pooler = getattr(getattr(network, "base_model", network), "pooler", None)
        if isinstance(pooler, nn.Module):  # nothing reads it: it is exported as it came
            pooler.requires_grad_(False)

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """Rows of the word embeddings; the tokenizer may be smaller."""
        return int(self.config.vocab_size)

    def hidden_states(
        self,
        input_ids: Int[Tensor, "batch length"],
        attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
        embedding_mask: Float[Tensor, " hidden"] | None = None,
        positions: Int[Tensor, " positions"] | None = None,
        bounds: Int[Tensor, "sequences 2"] | None = None,
    ) -> Float[Tensor, "batch length hidden"] | Float[Tensor, "positions hidden"]:
        """Encode; what stands at padding positions is unspecified, but finite.

        Args:
            input_ids: tokens.
            attention_mask: which of them are no padding.
            embedding_mask: a factor on the embeddings (kl3m's `reduced_dim` zeroes their end).
            positions: flat positions, `row * length + column`, if only these are wanted.
            bounds: of the documents in packed rows, flat positions of each one's first token and
                one past the last; only DeBERTa takes them. None: each row is one.
        """
        network: Network = self.network
        states: Tensor
        if isinstance(network, DebertaV2ForMaskedLM):
            inputs = input_ids, attention_mask.bool(), embedding_mask
            states = network.deberta(*inputs, positions, bounds)
            return states
        assert bounds is None
        with scaled_embeddings(network.base_model, embedding_mask):
            states = stock_hidden_states(network.base_model, input_ids, attention_mask)
        return states if positions is None else states.flatten(0, 1).index_select(0, positions)

    def enable_gradient_checkpointing(self) -> None:
        """Keep only each layer's input for the backward pass, which computes the rest again.

        Dropout repeats itself exactly. Evaluation, and passes without gradients, are unchanged.

        Raises:
            ConfigError: transformers' network for this architecture cannot.
        """
        network: Network = self.network
        if isinstance(network, DebertaV2ForMaskedLM):
            network.deberta.encoder.gradient_checkpointing = True
            return
        # Releases of transformers that lack the first name have the second, since deprecated.
        enable = getattr(network, "activation_checkpointing_enable", None)
        enable = enable or network.gradient_checkpointing_enable
        try:
            enable({"use_reentrant": False, "context_fn": contexts_of_recomputation})
        except ValueError as error:
            raise ConfigError(
                f"model_type {self.config.model_type!r} has no gradient checkpointing "
                "in transformers: train without it"
            ) from error

    def target_logits(
        self, states: Float[Tensor, "targets hidden"]
    ) -> Float[Tensor, "targets vocabulary"]:
        """Logits over the whole vocabulary from the hidden states of masked tokens."""
        head = self._head()
        return F.linear(head.transform(states), head.weight, head.bias)

    def masked_lm_loss(
        self, states: Float[Tensor, "targets hidden"], labels: Int[Tensor, " targets"]
    ) -> tuple[Float[Tensor, " targets"], Bool[Tensor, " targets"]]:
        """Cross-entropy of each hidden state's label, and whether the label scored highest.

        A label of -100 pads to a static number of targets: it costs 0 and is not correct.
        """
        head = self._head()
        return linear_cross_entropy(head.transform(states), head.weight, head.bias, labels)

    def _head(self) -> MaskedHead:
        if self.config.model_type not in MASKED_HEADS:
            raise ConfigError(
                f"model_type {self.config.model_type!r} has no masked-language head here: "
                f"choose one of {', '.join(MASKED_HEADS)}, or train without masked tasks"
            )
        return MASKED_HEADS[self.config.model_type](self.network)


@contextmanager
def scaled_embeddings(base_model: Network, factor: Tensor | None) -> Iterator[None]:
    """Multiply the output of the model's embeddings by `factor` while inside."""
    if factor is None:
        yield
        return

    def scale(_module: nn.Module, _inputs: tuple[object, ...], output: Tensor) -> Tensor:
        return output * factor[: output.shape[-1]].to(output.dtype)

    handle = base_model.embeddings.register_forward_hook(scale)
    try:
        yield
    finally:
        handle.remove()
