"""Disentangled attention on CUDA: rows one after another, scores in tiles.

    S[q, k] = (Q[q]·K[k] + Q[q]·PK[q-k] + K[k]·PQ[q-k]) * scale,  O = dropout(softmax(S)) V

1. Forward and backward are the kernels of `triton_kernels.py`, on the tiles of
   `triton_tiles.py`. Kept for the backward pass are the output and one number a query and head.
   The backward pass itself holds the gradients of scores twice: 4 * heads * tokens * max_length
   bytes in 16 bits, 400 MB for 16,384 tokens in rows of 512 at 12 heads.
2. Grids depend on shapes and `max_length` alone, and lengths are read on the device: nothing waits
   for the GPU, and a CUDA graph may be replayed with other rows and other masks. Programs that
   find no query return at once.
3. Which weights are dropped is a hash of the query's token, the head and the key's position in its
   row (`dropout.py`), which the backward pass computes again. A kept mask would be as large as the
   scores.
4. Nothing is added atomically. The tables' gradients are sums over programs, each of which writes
   its part; the parts are added afterwards. Results are the same, bit by bit, each time.

Dimensions: N tokens of all rows, H heads, D size of a head, R = 2 max_length - 1 offsets.

FlashAttention-2: https://arxiv.org/abs/2307.08691; DeBERTa: https://arxiv.org/abs/2006.03654
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from kl3m_embeddings.encoder.kernels.dropout import drop_below, kept_scale
from kl3m_embeddings.encoder.kernels.triton_kernels import (
    attention_kernel,
    row_sum_kernel,
    score_gradient_kernel,
    state_gradient_kernel,
    table_gradient_kernel,
)

Context = Any  # torch's annotation of it knows one saved tensor only

# Blocks of a table are few, and those in the middle meet most scores: several programs a
# multiprocessor even that out.
NUM_TABLE_PROGRAMS = 1024


def attend_packed(
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens heads size"],
    value: Float[Tensor, "tokens heads size"],
    pos_key: Float[Tensor, "heads offsets size"] | None,
    pos_query: Float[Tensor, "heads offsets size"] | None,
    bounds: Int[Tensor, "rows 2"],
    max_length: int,
    scale: float,
    dropout: float = 0.0,
    dropout_keys: Int[Tensor, " tokens"] | None = None,
    *,
    is_key: UInt8[Tensor, " tokens"] | None = None,
    block: int | None = None,
) -> Float[Tensor, "tokens heads size"]:
    """Let the tokens of each row attend to each other.

    Row r is the tokens from bounds[r, 0] to bounds[r, 1], at most `max_length`; it may be empty.
    Output and gradients are zero for tokens of no row. The tables have a row for each offset
    query - key, from max_length - 1 down to 1 - max_length; None: the scores lack that term. `size`
    is a power of two, 16 at least; so is `block`, which replaces the number of positions that a
    program takes at a time. `dropout_keys` are those of the site (`dropout.py`), wherever there is
    dropout. Nothing attends to tokens whose `is_key` is 0; the first of a row is a key.
    """
    assert dropout_keys is not None or not dropout
    num_tokens, num_heads, size = query.shape
    launch = Launch(
        num_rows=len(bounds),
        num_tokens=num_tokens,
        num_heads=num_heads,
        size=size,
        max_length=max_length,
        scale=scale,
        dropout=dropout,
        block=block or (64 if query.element_size() == 2 else 16),
        has_large_memory=has_large_memory(query.device),
    )
    # As linear layers leave them, RxHxD: rows are then as far apart as tokens.
    tables = (
        None if table is None else table.to(query.dtype).transpose(0, 1)
        for table in (pos_key, pos_query)
    )
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        output: Tensor = PackedDisentangledAttention.apply(
            query, key, value, *tables, bounds, is_key, dropout_keys if dropout else None, launch
        )
    return output


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How many programs there are, and what they are told beside matrices.

    Blocks are 64: the least that Hopper's matrix instructions take, and the most that four warps
    have registers for. No tensor core multiplies fp32 exactly; without, 16 are the most.
    """

    num_rows: int
    num_tokens: int
    num_heads: int
    size: int
    max_length: int
    scale: float
    dropout: float
    block: int
    has_large_memory: bool

    @property
    def num_blocks(self) -> int:
        """Blocks of a row of the greatest length."""
        return -(-self.max_length // self.block)

    @property
    def by_block(self) -> tuple[int, int]:
        """A program for each block of each row, and each head."""
        return self.num_rows * self.num_blocks, self.num_heads

    @property
    def by_table_block(self) -> tuple[int, int, int]:
        """A program for each block of a table, each head, and each share of the rows."""
        num_shares = -(-NUM_TABLE_PROGRAMS // (2 * self.num_blocks * self.num_heads))
        return 2 * self.num_blocks, self.num_heads, max(1, min(num_shares, self.num_rows))

    @property
    def shape(self) -> dict[str, Any]:
        """The constants that all kernels are compiled for."""
        sizes = {"HEADS": self.num_heads, "SIZE": self.size, "BLOCK": self.block}
        # Said, because Triton 3.9 warns that its default will change.
        return sizes | {"num_warps": 4, "enable_fp_fusion": True}

    @property
    def numbers(self) -> dict[str, Any]:
        """The constants and numbers of the backward pass' kernels."""
        numbers = {"num_tokens": self.num_tokens, "max_length": self.max_length}
        return numbers | self.shape | {"scale": self.scale, "num_stages": 2}

    def with_dropout(self, max_prefetched_size: int) -> dict[str, Any]:
        """The constants and numbers of kernels that compute weights.

        Loading the next tile ahead doubles the shared memory of states. Beyond some size, two
        programs at a time hide more of the wait than one that loads ahead.
        """
        prefetches = self.has_large_memory and self.size <= max_prefetched_size
        return self.numbers | {
            "DROP_BELOW": drop_below(self.dropout) if self.dropout else None,
            "kept_scale": kept_scale(self.dropout),
            "num_stages": 2 if prefetches else 1,
        }


def has_large_memory(device: torch.device) -> bool:
    """Whether multiprocessors have the shared memory of an H100's or more."""
    if device.type != "cuda":
        return False
    properties = torch.cuda.get_device_properties(device)
    return bool(properties.shared_memory_per_multiprocessor >= 228 * 1024)


class PackedDisentangledAttention(torch.autograd.Function):
    """Attention of each row to itself; states are NxHxD, tables RxHxD."""

    @staticmethod
    def forward(
        ctx: Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pos_key: Tensor | None,
        pos_query: Tensor | None,
        bounds: Tensor,
        is_key: Tensor | None,
        dropout_keys: Tensor | None,
        launch: Launch,
    ) -> Tensor:
        """Attend, and keep the inputs, the output and log2 of the softmax' denominators."""
        matrices = (query, key, value, pos_key, pos_query)
        inputs = [None if matrix is None else matrix.contiguous() for matrix in matrices]
        inputs += [bounds, is_key, dropout_keys]
        output = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
        log_sums = output.new_empty(launch.num_heads, launch.num_tokens, dtype=torch.float32)  # HxN
        attention_kernel[launch.by_block](*inputs, output, log_sums, **launch.with_dropout(64))
        ctx.save_for_backward(*inputs, output, log_sums)
        ctx.launch = launch
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the five matrices."""
        *inputs, output, log_sums = ctx.saved_tensors
        query, key, _, pos_key, pos_query, bounds, _, _ = inputs
        launch: Launch = ctx.launch
        grad_output = grad_output.contiguous()
        grad_value = torch.zeros_like(output)
        row_sums = sums_of_rows(output, grad_output, launch)
        num_positions = launch.num_blocks * launch.block
        # dS and its transpose, HxNx(positions): of query tokens and key positions, and the reverse.
        by_query, by_key = output.new_empty(2, launch.num_heads, launch.num_tokens, num_positions)
        score_gradient_kernel[launch.by_block](
            *inputs, log_sums, row_sums, grad_output, grad_value, by_query, by_key,
            **launch.with_dropout(32),
        )  # fmt: skip
        grad_query = state_gradient(by_query, key, pos_key, bounds, launch, mirrored=False)
        grad_key = state_gradient(by_key, query, pos_query, bounds, launch, mirrored=True)
        grad_pos_key = grad_pos_query = None
        if pos_key is not None:
            grad_pos_key = table_gradient(by_query, query, bounds, launch, mirrored=False)
        if pos_query is not None:
            grad_pos_query = table_gradient(by_key, key, bounds, launch, mirrored=True)
        grads = grad_query, grad_key, grad_value, grad_pos_key, grad_pos_query
        return *grads, None, None, None, None


def sums_of_rows(
    output: Float[Tensor, "tokens heads size"],
    grad_output: Float[Tensor, "tokens heads size"],
    launch: Launch,
) -> Float[Tensor, "heads tokens"]:
    """rowsum(dO * O), HxN: what the softmax' gradient subtracts from each dP of a row."""
    row_sums = output.new_empty(launch.num_heads, launch.num_tokens, dtype=torch.float32)
    grid = -(-launch.num_tokens // launch.block), launch.num_heads
    row_sum_kernel[grid](output, grad_output, row_sums, launch.num_tokens, **launch.shape)
    return row_sums


def state_gradient(
    grad_scores: Float[Tensor, "heads tokens positions"],
    other_states: Float[Tensor, "tokens heads size"],
    own_table: Float[Tensor, "offsets heads size"] | None,
    bounds: Int[Tensor, "rows 2"],
    launch: Launch,
    *,
    mirrored: bool,
) -> Float[Tensor, "tokens heads size"]:
    """The gradient of queries, from dS; mirrored, of keys, from its transpose; NxHxD."""
    grad = torch.zeros_like(other_states)
    state_gradient_kernel[launch.by_block](
        grad_scores, other_states, own_table, bounds, grad, MIRRORED=mirrored, **launch.numbers
    )
    return grad


def table_gradient(
    grad_scores: Float[Tensor, "heads tokens positions"],
    own_states: Float[Tensor, "tokens heads size"],
    bounds: Int[Tensor, "rows 2"],
    launch: Launch,
    *,
    mirrored: bool,
) -> Float[Tensor, "offsets heads size"]:
    """The gradient of the table that queries meet; mirrored, of the keys' one; RxHxD."""
    *_, num_shares = launch.by_table_block
    shape = num_shares, 2 * launch.max_length - 1, launch.num_heads, launch.size
    parts = own_states.new_empty(shape, dtype=torch.float32)
    table_gradient_kernel[launch.by_table_block](
        grad_scores, own_states, bounds, parts, launch.num_rows,
        MIRRORED=mirrored, **launch.numbers,
    )  # fmt: skip
    return parts.sum(0).to(own_states.dtype)
