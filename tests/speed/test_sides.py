import pytest
import torch

from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.speed.sides import Work, changed, ours, random_batch, transformers

WORK = Work(batch_size=4, length=24, precision="float32")


CPU = torch.device("cpu")


def test_both_sides_do_the_same_work(config_file):
    """From the same weights they have the same losses, step after step."""
    config = changed(load_architecture(config_file), WORK)
    steps = [side(config, WORK, CPU) for side in (ours, transformers)]
    assert steps[0].flops == steps[1].flops
    steps[1].network.load_state_dict(steps[0].network.state_dict())
    losses = []
    for step in steps:
        of_side = []
        for _ in range(3):
            loss = step.forward()
            step.backward(loss)
            step.optimise()
            of_side.append(loss.item())
        losses.append(of_side)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][-1] < losses[0][0]
    assert losses[1][-1] < losses[1][0]


def test_targets_and_sizes(config_file):
    batch = random_batch(load_architecture(config_file), Work(batch_size=8, length=50))
    assert batch.input_ids.shape == (8, 50)
    assert len(batch.target_positions.unique()) == 60
    assert torch.equal(batch.input_ids.flatten()[batch.target_positions], batch.target_labels)
    work = Work(length=64, num_layers=1, vocab_size=512)
    config = changed(load_architecture(config_file), work)
    sizes = config.max_position_embeddings, config.num_hidden_layers, config.vocab_size
    assert sizes == (64, 1, 512)
