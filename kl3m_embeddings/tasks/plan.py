"""What a step trains, as a pure function of its number: task, `reduced_dim`, micro-batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from transformers import PretrainedConfig

from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.data.counter_random import derive_key, random_uniform
from kl3m_embeddings.encoder.flops import training_flops
from kl3m_embeddings.tasks.base import Task

COUNTED_STEPS = 4096
"""Of so many steps at a time it is counted, and remembered, which trained which task."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What a step trains: its task, `reduced_dim`, and its micro-batches on this device."""

    step: int
    task: str
    reduced_dim: int | None
    batches: list[Batch]
    counts: dict[str, int]
    """Number of targets of each loss over the micro-batches of this device."""


@dataclass(frozen=True)
class PlannedTask:
    """A task, what it reads, and how often."""

    task: Task[Any]
    source: Any
    """What the task's `batch` takes."""
    probability: float
    batch_size: int
    """Samples of a micro-batch on this device."""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Makes the plan of any step."""

    tasks: Mapping[str, PlannedTask]
    seed: int
    hidden_size: int
    accumulation: int
    """Micro-batches of a step."""
    matroyshka_probability: float
    matroyshka_min_log2: int
    rank: int = 0
    world_size: int = 1
    pins_memory: bool = False
    """Whether batches go to a GPU."""

    def plans(self, first_step: int, last_step: int) -> Iterator[StepPlan]:
        """The plans of these steps, the last one included."""
        return (self.plan(step) for step in range(first_step, last_step + 1))

    def plan(self, step: int) -> StepPlan:
        """The plan of a step; steps count from 1."""
        name, reduced_dim = self._draw(step)
        planned = self.tasks[name]
        mask = embedding_mask(self.hidden_size, reduced_dim)
        before = self._num_steps_before(step, name) if planned.task.has_own_samples else step - 1
        dropout = derive_key(self.seed, "dropout", step)
        batches = []
        for index in range(self.accumulation):
            micro_step = before * self.accumulation + index
            # this rank's slice of the global micro-batch, among the task's samples and the step's
            size = planned.batch_size
            first_sample, first_of_step = (
                (number * self.world_size + self.rank) * size for number in (micro_step, index)
            )
            batch = planned.task.batch(planned.source, first_sample, size)
            batch = replace(batch, embedding_mask=mask).with_dropout(dropout, first_of_step, size)
            batches.append(batch.pinned() if self.pins_memory else batch)
        counts = {
            count: sum(batch.counts[count] for batch in batches) for count in batches[0].counts
        }
        return StepPlan(
            step=step, task=name, reduced_dim=reduced_dim, batches=batches, counts=counts
        )

    def _draw(self, step: int) -> tuple[str, int | None]:
        """The step's task and `reduced_dim`: the same on all devices, drawn once."""
        name = list(self.tasks)[_drawn_tasks(self.seed, self._edges, step, 1)[0]]
        _, reduce_draw, dim_draw = _draws(self.seed, step, 1)[0]
        if not self.tasks[name].task.reduces_dims or reduce_draw >= self.matroyshka_probability:
            return name, None
        choices = reduced_dims(self.hidden_size, self.matroyshka_min_log2)
        return name, choices[int(dim_draw * len(choices))]

    def _num_steps_before(self, step: int, name: str) -> int:
        """Steps before `step` that train the task."""
        index = list(self.tasks).index(name)
        period, rest = divmod(step - 1, COUNTED_STEPS)
        drawn = _drawn_tasks(self.seed, self._edges, 1 + period * COUNTED_STEPS, rest)
        return _counts_before(self.seed, self._edges, period)[index] + int((drawn == index).sum())

    @property
    def _edges(self) -> tuple[float, ...]:
        """The tasks' probabilities, added up: a number below an edge draws its task."""
        return tuple(np.cumsum([one.probability for one in self.tasks.values()]).tolist())


def step_flops(architecture: PretrainedConfig, plan: StepPlan) -> float:
    """Floating-point operations of a step on this device."""
    return sum(
        training_flops(
            architecture, rows * length, batch.attention_length(length), batch.num_targets
        )
        for batch in plan.batches
        for rows, length in batch.shapes()
    )


def _draws(seed: int, first_step: int, num_steps: int) -> NDArray[np.float64]:
    """For each step: its draws of task, of whether to reduce, and of the dimension."""
    return random_uniform(derive_key(seed, "step"), first_step, num_steps, 3)


def _drawn_tasks(
    seed: int, edges: tuple[float, ...], first_step: int, num_steps: int
) -> NDArray[np.int64]:
    """The place in the table of each step's task."""
    draws = _draws(seed, first_step, num_steps)[:, 0]
    return np.searchsorted(edges, draws * edges[-1], side="right")


@lru_cache(maxsize=8)
def _counts_before(seed: int, edges: tuple[float, ...], period: int) -> list[int]:
    """How often each task was drawn in the steps before those of a period."""
    counts = np.zeros(len(edges), dtype=np.int64)
    for earlier in range(period):
        drawn = _drawn_tasks(seed, edges, 1 + earlier * COUNTED_STEPS, COUNTED_STEPS)
        counts += np.bincount(drawn, minlength=len(edges))
    result: list[int] = counts.tolist()
    return result


def reduced_dims(hidden_size: int, min_log2: int) -> list[int]:
    """The powers of two from 2**min_log2 to half of the largest one up to `hidden_size`.

    Of 768 the largest is 512: ..., 128, 256. At least one, however small the model.
    """
    max_log2 = hidden_size.bit_length() - 1
    return [2**k for k in range(min_log2, max_log2)] or [2 ** min(min_log2, max_log2)]


def embedding_mask(hidden_size: int, reduced_dim: int | None) -> Float[Tensor, " hidden"] | None:
    """Ones up to `reduced_dim`, then zeros; None where there is none."""
    if reduced_dim is None:
        return None
    return (torch.arange(hidden_size) < reduced_dim).float()
