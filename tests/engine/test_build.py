"""The engines by name."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.base import Engine
from kl3m_embeddings.engine.build import ENGINES
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.tasks.objective import Objective
from tests.tiny_model import TINY_CONFIG


@pytest.fixture
def objective():
    return Objective(build_encoder(AutoConfig.for_model(**TINY_CONFIG), seed=0), pair_head=False)


def test_one_device_has_the_engine_of_one_device(objective):
    training = TrainingConfig(tokenizer="t", optimizer={"total_steps": 1}, precision="bfloat16")
    device = torch.device("cpu")
    engine = ENGINES["single"](objective, [], training, Ranks(), device)
    assert isinstance(engine, SingleEngine) and isinstance(engine, Engine)
    assert engine.objective is objective
    assert engine.device == device
    with pytest.raises(AssertionError):
        ENGINES["single"](objective, [], training, Ranks(world_size=2), device)


def test_deepspeed_loads_when_its_engine_is_built_and_not_before():
    """One device trains where it is not installed."""
    script = (
        "import sys; from kl3m_embeddings.engine.build import ENGINES; "
        "assert 'deepspeed' not in sys.modules; print(*ENGINES)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.split() == ["single", "deepspeed"], result.stderr
