"""What a step trains, as a pure function of its number: task, `reduced_dim`, micro-batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.tasks.base import Task, TextSource


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """A step's micro-batches on this device."""

    step: int
    task: str
    reduced_dim: int | None
    batches: list[Batch]
    counts: dict[str, int]
    """Number of targets of each loss over the micro-batches of this device."""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Makes the plan of any step."""

    source: TextSource
    tasks: Mapping[str, Task]
    probabilities: Mapping[str, float]
    hidden_size: int
    batch_size: int
    """Samples of a micro-batch on this device."""
    accumulation: int
    """Micro-batches of a step."""
    matroyshka_probability: float
    matroyshka_min_log2: int
    rank: int = 0
    world_size: int = 1

    def plans(self, first_step: int, last_step: int) -> Iterator[StepPlan]:
        """The plans of these steps, the last one included."""
        return (self.plan(step) for step in range(first_step, last_step + 1))

    def plan(self, step: int) -> StepPlan:
        """The plan of a step; steps count from 1."""
        task, reduced_dim = self._draw(step)
        mask = embedding_mask(self.hidden_size, reduced_dim)
        batches = []
        for micro_step in range((step - 1) * self.accumulation, step * self.accumulation):
            first_sample = (micro_step * self.world_size + self.rank) * self.batch_size
            batch = self.tasks[task].batch(self.source, first_sample, self.batch_size)
            seed = derive_key(self.source.seed, "dropout", micro_step, self.rank)
            batches.append(replace(batch, embedding_mask=mask, dropout_seed=seed >> 1))
        counts = {name: sum(batch.counts[name] for batch in batches) for name in batches[0].counts}
        return StepPlan(
            step=step, task=task, reduced_dim=reduced_dim, batches=batches, counts=counts
        )

    def _draw(self, step: int) -> tuple[str, int | None]:
        """The step's task and `reduced_dim`: the same on all devices, drawn once."""
        key = derive_key(self.source.seed, "step")
        task_draw, reduce_draw, dim_draw = random_uniform(key, step, 1, 3)[0]
        edges = np.cumsum(list(self.probabilities.values()))
        place = int(np.searchsorted(edges, task_draw * edges[-1], side="right"))
        task = list(self.probabilities)[place]
        if reduce_draw >= self.matroyshka_probability:
            return task, None
        choices = reduced_dims(self.hidden_size, self.matroyshka_min_log2)
        return task, choices[int(dim_draw * len(choices))]


def reduced_dims(hidden_size: int, min_log2: int) -> list[int]:
    """The powers of two from 2**min_log2 to half of the largest one in `hidden_size`."""
    max_log2 = hidden_size.bit_length() - 1
    return [2**k for k in range(min_log2, max_log2)] or [2 ** min(min_log2, max_log2)]


def embedding_mask(hidden_size: int, reduced_dim: int | None) -> Float[Tensor, " hidden"] | None:
    """Ones up to `reduced_dim`, then zeros; None where there is none."""
    if reduced_dim is None:
        return None
    return (torch.arange(hidden_size) < reduced_dim).float()
