"""How many floating-point operations a training step needs, for `mfu`.

Counted are the multiply-adds of the matrix products that the mathematics asks for, two operations
each, whatever an implementation spends beyond them; the backward pass takes twice the forward. With
n tokens in sequences of length L, t targets, hidden size h, intermediate size i, vocabulary V, word
embeddings of size e, and k position terms (DeBERTa's c2p and p2c, else 0), a forward pass takes

    layers * n * 2 (4 h^2 + m h i)       projections and feed-forward (m = 2; 3 where it is gated)
    layers * n * 2 h L (2 + k)           scores, context and position scores
    layers * k * 2 h^2 (2L - 1)          projections of the relative offsets, once a layer
    t * 2 e (h + V)                      the masked-language head, at the targets only

DeBERTa's last layer projects its context, and runs its feed-forward, at the targets only, where
there are any. A local layer of ModernBERT counts its window in place of L. Look-ups, normalisation,
softmax and dropout are left out.
"""

from transformers import PretrainedConfig


def training_flops(
    config: PretrainedConfig, num_tokens: int, sequence_length: float | int, num_targets: int
) -> float:
    """Floating-point operations of one forward and backward pass."""
    hidden = int(config.hidden_size)
    embedding = int(getattr(config, "embedding_size", hidden))
    num_layers = int(config.num_hidden_layers)
    terms = num_position_terms(config)
    offsets = 2 * sequence_length - 1
    # Line by line the table above: head, layers, less the last layer's other positions, offsets.
    forward = num_targets * 2.0 * embedding * (hidden + int(config.vocab_size))
    forward += num_layers * num_tokens * 2 * layer_weights(config)
    if config.model_type == "deberta-v2" and num_targets:
        at_targets = layer_weights(config) - 3 * hidden**2  # all but Q, K and V
        forward -= (num_tokens - num_targets) * 2 * at_targets
    forward += num_layers * terms * 2 * hidden**2 * offsets
    for window in attention_windows(config, sequence_length):
        forward += num_tokens * 2 * hidden * window * (2 + terms)
    return 3.0 * forward  # backward has two products for each of forward's


def num_position_terms(config: PretrainedConfig) -> int:
    """How many of DeBERTa's two position terms are in use."""
    if not getattr(config, "relative_attention", False):
        return 0
    return len({"c2p", "p2c"} & set(config.pos_att_type or []))


def layer_weights(config: PretrainedConfig) -> int:
    """Entries of one layer's matrices."""
    hidden = int(config.hidden_size)
    intermediate = int(getattr(config, "intermediate_size", 4 * hidden))
    num_matrices = 3 if config.model_type == "modernbert" else 2
    return 4 * hidden**2 + num_matrices * hidden * intermediate


def attention_windows(config: PretrainedConfig, sequence_length: float | int) -> list[float | int]:
    """For each layer, how many keys a query meets."""
    if config.model_type != "modernbert":
        return [sequence_length] * int(config.num_hidden_layers)
    local = min(int(config.local_attention), sequence_length)
    return [
        local if kind == "sliding_attention" else sequence_length for kind in config.layer_types
    ]
