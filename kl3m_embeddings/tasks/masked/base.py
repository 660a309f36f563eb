"""What all masked tasks share: their loss is a mean over the tokens that they hide."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch

from kl3m_embeddings.config.tasks import MaskedOptions
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.tasks.base import (
    Forward,
    LossPart,
    Reads,
    StepTotals,
    TextSource,
)

OptionsT = TypeVar("OptionsT", bound=MaskedOptions)


@dataclass(frozen=True)
class MaskedTask(ABC, Generic[OptionsT]):
    """A task that predicts hidden tokens of the corpus."""

    options: OptionsT

    reads: ClassVar[Reads] = "text"
    has_own_samples: ClassVar[bool] = False
    reduces_dims: ClassVar[bool] = True
    loss: ClassVar[None] = None

    @classmethod
    def create(cls, options: OptionsT, *_: object) -> "MaskedTask[OptionsT]":
        """The task with these options; texts are cut already, and no vectors are compared."""
        return cls(options)

    @abstractmethod
    def batch(self, source: TextSource, first_sample: int, count: int) -> Batch:
        """Samples `first_sample` and on: a pure function of the source's seed and the numbers."""

    def losses(
        self, forward: Forward, batch: Batch, divisors: dict[str, float]
    ) -> Iterator[LossPart]:
        """One backward pass: each loss summed over its targets, over their number in the step."""
        outputs = forward(batch)
        parts = [total / divisors[name] for name, total in outputs.loss_sums.items()]
        yield LossPart(torch.stack(parts).sum(), is_last=True)

    def outcome(self, totals: StepTotals) -> dict[str, float | int]:
        """The share of tokens that were predicted rightly."""
        num_targets = int(totals.divisors["mlm"])
        return {
            "accuracy": totals.num_correct / max(num_targets, 1),
            "num_targets": num_targets,
        }
