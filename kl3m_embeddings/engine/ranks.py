"""The ranks of a run, and the small things that they tell each other on the host.

What is told is JSON, over a process group of its own (gloo): no device waits for it, nothing is
unpickled. Every method is a collective: all ranks call it, in the same order. A rank that is alone
tells itself.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from kl3m_embeddings.errors import INTERNAL_ERROR, OtherRankError, UserError, explained

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Which rank this process is, of how many; by default the only one."""

    rank: int = 0
    local_rank: int = 0
    """Among the ranks of this machine."""
    world_size: int = 1
    group: Any = None
    """The gloo group of all ranks; None: there is one rank only."""

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the run's files."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401 - any JSON
        """What each rank says, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = self._all(torch.tensor([len(data)]))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(data)] = data
        parts = self._all(padded)
        return [
            json.loads(part[: int(size)].numpy().tobytes())
            for part, size in zip(parts, sizes, strict=True)
        ]

    def sums(self, numbers: Sequence[int]) -> list[int]:
        """Each number added up over the ranks."""
        if self.world_size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.long)
        dist.all_reduce(total, group=self.group)
        result: list[int] = total.tolist()
        return result

    def largest(self, value: int) -> int:
        """The largest number that a rank says."""
        if self.world_size == 1:
            return value
        largest = torch.tensor([value])
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.group)
        return int(largest)

    def any(self, flag: bool) -> bool:
        """Whether it is true on some rank."""
        return self.largest(int(flag)) > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave with an error on every rank, if there was one on any: none waits for another.

        Raises:
            OtherRankError: on the ranks whose error is none of their own, or has been said by a
                rank before; it carries the exit code and prints nothing.
        """
        own: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is raised again below
            own = error
        if self.world_size == 1:
            if own is not None:
                raise own
            return
        known = None if own is None else explained(own)
        code = INTERNAL_ERROR if known is None else known.exit_code
        said = self.gather(None if own is None else [code, str(own)])
        errors = [one for one in said if one is not None]
        if not errors:
            return
        mine = said[self.rank]
        if own is None or (isinstance(own, UserError) and mine in said[: self.rank]):
            raise OtherRankError(errors[0][0])
        raise own

    def in_turn(self, make: Callable[[], T]) -> T:
        """Call `make` on one rank of each machine, which may write files, then on the others."""
        made: list[T] = []
        for first in (True, False):
            with self.together():
                if (self.local_rank == 0) == first:
                    made.append(make())
        return made[0]

    def _all(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor, group=self.group)
        return parts
