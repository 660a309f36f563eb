import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.evaluation.held_out_text import draw_samples
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.tasks.objective import Objective
from tests.evaluation.held_out import MLM
from tests.tiny_model import TINY_CONFIG


@pytest.fixture
def engine():
    objective = Objective(
        build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0), pair_head=False
    )
    optimizers = build_optimizers(objective.named_parameters(), OptimizerConfig(total_steps=1))
    return SingleEngine(objective, optimizers, device=torch.device("cpu"), precision="float32")


@pytest.fixture
def evaluator(make_sources):
    return draw_samples(make_sources()[1], MLM, num_samples=10, batch_size=4)
