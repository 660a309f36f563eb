"""The two parts of a masked-language head, transform and decoder, for each architecture with one.

transformers computes them together and for every position. Here the transform runs on the target
positions only, and `kernels/masked_loss.py` holds the logits of a few of them at a time in fp32.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

# transformers' networks carry no types; what is here of them is tested one by one.
Network = Any


class MaskedHead(NamedTuple):
    """`F.linear(transform(hidden), weight, bias)` are the logits over the vocabulary."""

    transform: Callable[[Tensor], Tensor]
    weight: Tensor
    bias: Tensor


def _bert(network: Network) -> MaskedHead:
    """Transform and decoder are modules of their own."""
    head = network.cls.predictions
    return MaskedHead(head.transform, head.decoder.weight, head.decoder.bias)


def _deberta(network: Network) -> MaskedHead:
    """BERT's layout with `config.legacy`; without it the word embeddings are the decoder."""
    if network.config.legacy:
        return _bert(network)
    head = network.lm_predictions.lm_head
    return MaskedHead(head, network.deberta.embeddings.word_embeddings.weight, head.bias)


def _roberta(network: Network) -> MaskedHead:
    head = network.lm_head
    return MaskedHead(
        lambda hidden: head.layer_norm(F.gelu(head.dense(hidden))),
        head.decoder.weight,
        head.decoder.bias,
    )


def _albert(network: Network) -> MaskedHead:
    head = network.predictions
    return MaskedHead(
        lambda hidden: head.LayerNorm(head.activation(head.dense(hidden))),
        head.decoder.weight,
        head.decoder.bias,
    )


def _distilbert(network: Network) -> MaskedHead:
    return MaskedHead(
        lambda hidden: network.vocab_layer_norm(
            network.activation(network.vocab_transform(hidden))
        ),
        network.vocab_projector.weight,
        network.vocab_projector.bias,
    )


def _electra(network: Network) -> MaskedHead:
    decoder = network.generator_lm_head
    return MaskedHead(network.generator_predictions, decoder.weight, decoder.bias)


def _modernbert(network: Network) -> MaskedHead:
    return MaskedHead(network.head, network.decoder.weight, network.decoder.bias)


# model_type -> the head of transformers' network for it.
MASKED_HEADS: dict[str, Callable[[Network], MaskedHead]] = {
    "albert": _albert,
    "bert": _bert,
    "camembert": _roberta,
    "deberta-v2": _deberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "modernbert": _modernbert,
    "mpnet": _roberta,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
