"""Disentangled attention on CUDA: rows one after another, no matrix of scores in memory.

1. Forward and backward are the kernels of `attention_kernels.py`, on the tiles of
   `attention_tiles.py`. Kept for the backward pass are the output and one number a query and head.
2. Grids depend on shapes and `max_length` alone, and lengths are read on the device: nothing waits
   for the GPU, and a CUDA graph may be replayed with other rows and another seed. Programs that
   find no query return at once.
3. Which weights are dropped is a hash of seed, head, query and key position (`dropout_mask`), which
   the backward pass computes again.
4. Nothing is added atomically. The tables' gradients are sums over programs, each of which writes
   its part; the parts are added afterwards. Results are the same, bit by bit, each time.

FlashAttention-2: https://arxiv.org/abs/2307.08691; DeBERTa: https://arxiv.org/abs/2006.03654
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from kl3m_embeddings.encoder.attention_kernels import (
    attention_kernel,
    key_gradient_kernel,
    query_gradient_kernel,
    table_gradient_kernel,
)

Context = Any  # torch's annotation of it knows one saved tensor only

# Diagonals are few and of unequal length: several programs a multiprocessor even that out.
NUM_TABLE_PROGRAMS = 1024
WORD = 2**32 - 1


def attend_packed(
    query: Float[Tensor, "tokens heads size"],
    key: Float[Tensor, "tokens heads size"],
    value: Float[Tensor, "tokens heads size"],
    pos_key: Float[Tensor, "heads offsets size"] | None,
    pos_query: Float[Tensor, "heads offsets size"] | None,
    row_starts: Int[Tensor, " bounds"],
    max_length: int,
    scale: float,
    dropout: float,
    seed: Int[Tensor, "1"],
    *,
    block: int | None = None,
) -> Float[Tensor, "tokens heads size"]:
    """Let the tokens of each row attend to each other.

    Row r is the tokens from row_starts[r] to row_starts[r + 1], at most `max_length`; it may be
    empty. Output and gradients are zero for tokens of no row. The tables have a row for each offset
    query - key, from max_length - 1 down to 1 - max_length; None: the scores lack that term.
    `block` replaces the number of positions that a program takes at a time, 16 at least.
    """
    num_tokens, num_heads, size = query.shape
    launch = Launch(
        num_rows=len(row_starts) - 1,
        num_tokens=num_tokens,
        num_heads=num_heads,
        size=size,
        max_length=max_length,
        scale=scale,
        dropout=dropout,
        block=block or block_of(size, query.element_size()),
    )
    # As linear layers leave them, [offsets, heads, size]: rows are then as far apart as tokens.
    tables = (
        None if table is None else table.to(query.dtype).transpose(0, 1)
        for table in (pos_key, pos_query)
    )
    with torch.cuda.device_of(query):
        output: Tensor = PackedDisentangledAttention.apply(
            query, key, value, *tables, row_starts, seed, launch
        )
    return output


def block_of(size: int, bytes_per_number: int) -> int:
    """Positions a tile: what fits into registers and shared memory with five matrices of tiles."""
    return 64 if bytes_per_number == 2 else 32


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What all kernels are told beside matrices, and how many programs there are."""

    num_rows: int
    num_tokens: int
    num_heads: int
    size: int
    max_length: int
    scale: float
    dropout: float
    block: int

    @property
    def num_blocks(self) -> int:
        """Of the longest row."""
        return -(-self.max_length // self.block)

    @property
    def by_block(self) -> tuple[int, int]:
        """A program for each block of each row, and head."""
        return max(1, self.num_rows * self.num_blocks), self.num_heads

    @property
    def by_diagonal(self) -> tuple[int, int, int]:
        """A program for each diagonal of blocks, head, and share of the rows."""
        num_diagonals = 2 * self.num_blocks - 1
        num_shares = -(-NUM_TABLE_PROGRAMS // (num_diagonals * self.num_heads))
        return num_diagonals, self.num_heads, max(1, min(num_shares, self.num_rows))

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments that all kernels have."""
        # The bits of a weight are an int32, uniform: it is dropped if they are below this one.
        drop_below = round(self.dropout * 2**32) - 2**31 if self.dropout else None
        return {
            "num_tokens": self.num_tokens,
            "max_length": self.max_length,
            "scale": self.scale,
            "kept_scale": 1 / (1 - self.dropout),
            "DROP_BELOW": drop_below,
            "HEADS": self.num_heads,
            "SIZE": self.size,
            "BLOCK": self.block,
        }

    def new_parts(self, table: Tensor | None) -> Tensor | None:
        """[shares, left and right, rows of table blocks, heads, size], for the table's gradient."""
        if table is None:
            return None
        *_, num_shares = self.by_diagonal
        num_table_rows = 2 * self.num_blocks * self.block
        shape = (num_shares, 2, num_table_rows, self.num_heads, self.size)
        parts = table.new_empty(shape, dtype=torch.float32)
        # The last block is no diagonal's left one, and the first no diagonal's right one.
        parts[:, 0, -self.block :] = 0
        parts[:, 1, : self.block] = 0
        return parts

    def sum_of_parts(self, parts: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """The gradient of a table, [offsets, heads, size]."""
        if parts is None:
            return None
        # The first table block begins as many rows before the table as the last block lacks.
        first = self.num_blocks * self.block - self.max_length
        return parts.sum((0, 1))[first : first + 2 * self.max_length - 1].to(dtype)


class PackedDisentangledAttention(torch.autograd.Function):
    """Attention of each row to itself; tables are [offsets, heads, size]."""

    @staticmethod
    def forward(
        ctx: Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pos_key: Tensor | None,
        pos_query: Tensor | None,
        row_starts: Tensor,
        seed: Tensor,
        launch: Launch,
    ) -> Tensor:
        """Attend."""
        matrices = (query, key, value, pos_key, pos_query)
        inputs = [None if one is None else one.contiguous() for one in matrices]
        inputs += [row_starts, seed]
        output = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
        log_sums = output.new_empty(launch.num_heads, launch.num_tokens, dtype=torch.float32)
        attention_kernel[launch.by_block](*inputs, output, log_sums, **launch.settings)
        ctx.save_for_backward(*inputs, output, log_sums)
        ctx.launch = launch
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the five matrices."""
        *inputs, output, log_sums = ctx.saved_tensors
        launch, tables, settings = ctx.launch, inputs[3:5], ctx.launch.settings
        grad_output = grad_output.contiguous()
        grads = [torch.zeros_like(output) for _ in range(3)]
        sums = log_sums, grad_output, torch.empty_like(log_sums)
        query_gradient_kernel[launch.by_block](*inputs, *sums, output, grads[0], **settings)
        key_gradient_kernel[launch.by_block](*inputs, *sums, *grads[1:], **settings)
        parts = [launch.new_parts(table) for table in tables]
        if tables != [None, None]:
            num_rows = launch.num_rows
            table_gradient_kernel[launch.by_diagonal](*inputs, *sums, *parts, num_rows, **settings)
        of_tables = (launch.sum_of_parts(part, output.dtype) for part in parts)
        return *grads, *of_tables, None, None, None


def dropout_mask(
    seed: Int[Tensor, "1"], dropout: float, num_tokens: int, num_heads: int, max_length: int
) -> Bool[Tensor, "tokens heads keys"]:
    """Which weights `attend_packed` keeps, of each query to each key position in its row."""
    state = mixed((seed & WORD) ^ mixed(seed >> 32 & WORD))
    queries = torch.arange(num_tokens * num_heads, device=seed.device).view(-1, num_heads, 1)
    keys = torch.arange(max_length, device=seed.device)
    bits = mixed(mixed(queries + state & WORD) ^ mixed(keys))
    return (bits + 2**31 & WORD) >= round(dropout * 2**32)


def mixed(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The hash of `attention_tiles.py`, of 32 bits in each int64."""
    bits = (bits ^ bits >> 16) * 0x7FEB352D & WORD
    bits = (bits ^ bits >> 15) * 0x846CA68B & WORD
    return bits ^ bits >> 16
