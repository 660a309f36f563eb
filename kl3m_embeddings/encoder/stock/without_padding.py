"""Makes transformers' networks fast on the CPU: no padding, dropout by token, fewer casts.

1. Rows are sorted by length and the padding between them is left out: the network sees one
   sequence of all tokens, and the position of each in its row. Attention alone knows the rows
   (`attention.py`).
2. `nn.Dropout` becomes our `Dropout`, whose masks belong to tokens.
3. Under autocast the embeddings' output is cast, once. A post-norm network then adds and
   normalises in that dtype, and none of its products casts its input again. ModernBERT, a pre-norm
   network, keeps its residual stream in fp32.

4. Tokens are filled up to one of few numbers (`filling_lengths`).

In 1. rows `a a . . .` and `b b b b .` become `b b b b a a` with the positions `0 1 2 3 0 1`; the
hidden states go back to where the tokens were.

PACKED_TYPES get all of it. Others run with padding and their own attention: MPNet, whose own adds a
learnt bias to every score, and rows longer than MAX_PACKED_LENGTH. Parameters and their names stay
as they are, and so does what is computed on other devices.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kl3m_embeddings.encoder.heads import Network
from kl3m_embeddings.encoder.kernels.dropout import Dropout, keyed_by, keys_in_force
from kl3m_embeddings.encoder.kernels.precision import compute_dtype
from kl3m_embeddings.encoder.stock.attention import IMPLEMENTATION, PackedRows

POST_NORM_TYPES = frozenset(
    {"albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"}
)
PACKED_TYPES = POST_NORM_TYPES - {"mpnet"} | {"modernbert"}
# Beyond it, SDPA without dropout is worth its slowness: it keeps no weights for the backward pass.
MAX_PACKED_LENGTH = 1024
MIN_TOKEN_STEP = 32


def speed_up(network: Network) -> None:
    """Prepare one of transformers' networks, in place, for `stock_hidden_states`; call it once."""
    replace_dropout(network)
    config = network.config
    if config.model_type in POST_NORM_TYPES:
        network.base_model.embeddings.register_forward_hook(cast_on_the_cpu)
    is_decoder = getattr(config, "is_decoder", False)
    if config.model_type in PACKED_TYPES and not is_decoder:
        network.set_attn_implementation(IMPLEMENTATION)


def replace_dropout(module: nn.Module) -> None:
    """Replace each `nn.Dropout` inside."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p).train(child.training))
        else:
            replace_dropout(child)


def cast_on_the_cpu(_module: nn.Module, _inputs: tuple[object, ...], output: Tensor) -> Tensor:
    """A forward hook: the output in autocast's dtype, where that is on."""
    return output.to(compute_dtype(output)) if output.is_cpu else output


def stock_hidden_states(
    base_model: Network,
    input_ids: Int[Tensor, "batch length"],
    attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"],
) -> Float[Tensor, "batch length hidden"]:
    """Encode with one of transformers' models; padding positions are finite, on the CPU zero."""
    states: Tensor
    if is_packable(base_model, input_ids):
        return packed_hidden_states(base_model, input_ids, attention_mask.bool())
    states = base_model(input_ids=input_ids, attention_mask=attention_mask.long()).last_hidden_state
    return states


def is_packable(base_model: Network, input_ids: Int[Tensor, "batch length"]) -> bool:
    """Whether the model was prepared and runs on the CPU, on rows that are not very long."""
    return (
        base_model.config._attn_implementation == IMPLEMENTATION
        and input_ids.is_cpu
        and input_ids.shape[1] <= MAX_PACKED_LENGTH
        and not torch.compiler.is_compiling()
    )


def packed_hidden_states(
    base_model: Network,
    input_ids: Int[Tensor, "batch length"],
    attention_mask: Bool[Tensor, "batch length"],
) -> Float[Tensor, "batch length hidden"]:
    """Encode the tokens that the mask allows, in one sequence."""
    length, nowhere = input_ids.shape[1], input_ids.numel()
    # Rows that fill up: of copies of the first token, and their states go to the place `nowhere`.
    filling = torch.tensor(filling_lengths(int(attention_mask.sum()), length))
    filled = torch.arange(length) < filling[:, None]
    attention_mask = torch.cat([attention_mask, filled])
    flat_positions = torch.arange(nowhere).view(input_ids.shape)
    flat_positions = torch.cat([flat_positions, torch.full(filled.shape, nowhere)])
    lengths = attention_mask.sum(dim=1)
    order = lengths.argsort(descending=True, stable=True)
    tokens = flat_positions[order][attention_mask[order]]  # the longest row's first
    sources = tokens % nowhere
    keys = keys_in_force()
    with keyed_by(None if keys is None else keys.at(sources)):
        packed: Tensor = base_model(
            input_ids=input_ids.flatten()[sources][None],
            position_ids=position_ids(base_model, input_ids).flatten()[sources][None],
            packed_rows=PackedRows(lengths[order].tolist()),
        ).last_hidden_state[0]
    states = packed.new_zeros(nowhere + 1, packed.shape[-1])
    return states.index_copy(0, tokens, packed)[:nowhere].view(*input_ids.shape, -1)


def filling_lengths(num_tokens: int, length: int) -> list[int]:
    """Rows of at most `length` tokens that make their number one of few.

    From one power of two to the next there are 16 numbers: 4,400 tokens become 4,608. Matrices of a
    few sizes find room where others were freed, where those of ever new sizes do not; and oneDNN
    compiles and keeps a matrix product for each.
    """
    step = max(MIN_TOKEN_STEP, 2 ** ((num_tokens - 1).bit_length() - 5))
    whole, rest = divmod(-num_tokens % step, length)
    return [length] * whole + [rest] * (rest > 0)


def position_ids(
    base_model: Network, input_ids: Int[Tensor, "batch length"]
) -> Int[Tensor, "batch length"]:
    """Those that the model would give to the padded batch."""
    embeddings = base_model.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa counts from padding
        positions: Tensor = embeddings.create_position_ids_from_input_ids(
            input_ids, embeddings.padding_idx
        )
        return positions
    return torch.arange(input_ids.shape[1]).expand(input_ids.shape)
