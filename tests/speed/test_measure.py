import pytest
import torch

from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.speed.measure import measure
from kl3m_embeddings.speed.sides import SIDES, Work

WORK = Work(batch_size=4, length=24, precision="float32")
CPU = torch.device("cpu")


@pytest.mark.parametrize("side", SIDES)
def test_numbers_of_a_side(config_file, side):
    numbers = measure(side, load_architecture(config_file), WORK, CPU, 2)
    phases = sum(numbers[f"{name}_s"] for name in ("forward", "backward", "optimizer"))
    assert phases == pytest.approx(numbers["step_s"], rel=0.5)
    assert numbers["tokens_per_s"] == pytest.approx(96 / numbers["step_s"])
    assert 5 < numbers["first_loss"] < 7
    assert numbers["flops_limit"] > 0
    assert numbers["peak_memory_gb"] > 0.1
