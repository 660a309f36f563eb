import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.config.tasks import MlmOptions, NspOptions
from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.masked.nsp import NextSegmentPrediction
from kl3m_embeddings.tasks.objective import Objective
from tests.engine.optimizers import OPTIMIZERS
from tests.tiny_model import TINY_CONFIG


@pytest.fixture
def make_engine():
    """A function that makes an engine on the CPU over a tiny encoder with a head for pairs."""

    def make(kind="adamw fused", *, precision="float32", seed=0, **config):
        architecture = AutoConfig.for_model(**TINY_CONFIG | config)
        objective = Objective(build_encoder(architecture, seed=seed), pair_head=True, seed=seed)
        optimizers = build_optimizers(
            objective.named_parameters(), OptimizerConfig(total_steps=10, **OPTIMIZERS[kind])
        )
        return SingleEngine(objective, optimizers, device=torch.device("cpu"), precision=precision)

    return make


@pytest.fixture
def batches(make_sources):
    """Alternating batches of pairs and of plain text, with dropout."""
    source = make_sources()[0]
    tasks = [
        NextSegmentPrediction(NspOptions(probability=1.0)),
        MaskedLanguageModelling(MlmOptions(probability=1.0)),
    ]
    made = [tasks[n % 2].batch(source, 4 * n, 4) for n in range(6)]
    return [batch.with_dropout(1000 + number, 0, 4) for number, batch in enumerate(made)]
