"""The engines by name; a new one is a line in ENGINES."""

from collections.abc import Callable

import torch
from torch.optim import Optimizer

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.engine.base import Engine
from kl3m_embeddings.engine.deepspeed import DeepSpeedEngine
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.tasks.objective import Objective


def single_engine(
    objective: Objective,
    optimizers: list[Optimizer],
    training: TrainingConfig,
    ranks: Ranks,
    device: torch.device,
) -> Engine:
    """The engine of one device."""
    assert ranks.world_size == 1
    return SingleEngine(
        objective,
        optimizers,
        device=device,
        precision=training.precision,
        compiled=training.compile,
    )


BuildEngine = Callable[[Objective, list[Optimizer], TrainingConfig, Ranks, torch.device], Engine]
ENGINES: dict[str, BuildEngine] = {"single": single_engine, "deepspeed": DeepSpeedEngine}
