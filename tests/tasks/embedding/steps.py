"""Steps of the task `pairs`: their batches, losses and gradients."""

import pytest
import torch
from transformers import AutoConfig

from kl3m_embeddings.config.tasks import PairsOptions
from kl3m_embeddings.config.training import OptimizerConfig
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.optim.build import build_optimizers
from kl3m_embeddings.tasks.embedding.pairs import Pairs
from kl3m_embeddings.tasks.objective import Objective
from tests.tiny_model import TINY_CONFIG


def options_of(**changes):
    return PairsOptions.model_validate({"probability": 1.0, **changes})


def make_engine(task, **config):
    architecture = AutoConfig.for_model(**TINY_CONFIG | config)
    losses = {"pairs": task.loss}
    encoder = build_encoder(architecture, seed=0)
    objective = Objective(encoder, pair_head=False, losses=losses)
    optimizers = build_optimizers(objective.named_parameters(), OptimizerConfig(total_steps=10))
    return SingleEngine(objective, optimizers, device=torch.device("cpu"), precision="float32")


def gradients(options, batches, **config):
    """The step's loss, its measures, and the gradient of every parameter that has one."""
    task = Pairs(options, 32)
    engine = make_engine(task, **config)
    divisors = {"pairs": float(sum(batch.counts["pairs"] for batch in batches))}
    loss, measures, num_backward = 0.0, {}, 0
    for batch in batches:
        for part in task.losses(engine.forward, batch, divisors):
            engine.backward(part.loss, last=part.is_last)
            num_backward += 1
            loss += part.loss.item()
            for name, value in part.measures.items():
                measures[name] = measures.get(name, 0.0) + value.item()
    named = engine.objective.named_parameters()
    found = {name: p.grad.clone() for name, p in named if p.grad is not None}
    return loss, measures, found, num_backward


def batches_of(options, source, *, count=8, number=1, seed=77, part_tokens=4096):
    task = Pairs(options, 32, part_tokens)
    made = [task.batch(source, n * count, count) for n in range(number)]
    if seed is None:
        return made
    return [batch.with_dropout(seed, n * count, count) for n, batch in enumerate(made)]


def assert_same(one, other, rtol=1e-5):
    assert one[0] == pytest.approx(other[0], rel=rtol)
    assert one[1] == pytest.approx(other[1], rel=rtol, abs=1e-6)
    assert one[2].keys() == other[2].keys()
    for name, gradient in one[2].items():
        torch.testing.assert_close(gradient, other[2][name], rtol=rtol, atol=4e-6, msg=name)
