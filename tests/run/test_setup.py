"""A run is put together: where it starts, where it ends, and what goes wrong before that."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from kl3m_embeddings.config.read import load_training
from kl3m_embeddings.config.training import TrainingConfig
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.run.setup import (
    RunRequest,
    build_planner,
    last_step,
    open_run,
    set_determinism,
)
from tests.run.tuned import train
from tests.tiny_model import TINY_CONFIG


@pytest.fixture
def training():
    """A function that makes a configuration of ten steps."""

    def make(**fields):
        defaults = {"tokenizer": "x", "optimizer": {"total_steps": 10}}
        return TrainingConfig.model_validate(defaults | fields)

    return make


def test_a_restart_that_fails_leaves_the_old_run_as_it_was(make_model_folder, capsys):
    folder = make_model_folder()
    assert train(folder, "--stop-after", 4) == 0
    before = sorted(folder.rglob("*"))
    assert train(folder, "--restart", "--data", "gone=/nowhere.jsonl") == 65
    assert sorted(folder.rglob("*")) == before
    assert train(folder, "--restart", "--stop-after", 4) == 0
    assert (folder / "previous-1" / "checkpoint-4").is_dir()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(make_model_folder, capsys, device):
    assert train(make_model_folder(), "--device", device) == 2
    message = capsys.readouterr().err
    assert f"error: --device {device}: " in message
    assert len(message.splitlines()) == 1


def test_a_run_ends_at_the_schedules_end_or_so_many_steps_from_here(training):
    def ends_at(step, stop_after):
        request = RunRequest(folder=Path("x"), training=training(), stop_after=stop_after)
        return last_step(request, TrainState(step=step))

    assert [ends_at(*one) for one in ((0, None), (4, 3), (4, 6), (4, 7), (10, 5))] == [
        10, 7, 10, 10, 10
    ]  # fmt: skip


@pytest.fixture
def as_it_was(monkeypatch):
    """Puts torch's settings back."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before)
    torch.utils.deterministic.fill_uninitialized_memory = filled


@pytest.mark.parametrize(
    ("wanted", "device", "expected"),
    [
        (None, "cpu", True),
        (None, "cuda", False),
        (True, "cuda", True),
        (False, "cpu", False),
    ],
)
def test_the_same_bits_are_asked_for_on_the_cpu_or_where_wanted(
    training, as_it_was, wanted, device, expected
):
    set_determinism(training(deterministic=wanted), torch.device(device))
    assert torch.are_deterministic_algorithms_enabled() == expected
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == expected
    assert not expected or not torch.utils.deterministic.fill_uninitialized_memory


def test_plans_are_those_of_the_rank_and_of_training_json(training):
    settings = training(
        seed=7,
        optimizer={"total_steps": 10, "gradient_accumulation_steps": 3},
        matroyshka_probability=0.25,
        matroyshka_min_log2=4,
    )
    ranks = Ranks(rank=1, world_size=2)
    architecture = AutoConfig.for_model(**TINY_CONFIG)
    planner = build_planner(settings, architecture, {}, ranks, torch.device("cpu"))
    expected = {
        "seed": 7, "accumulation": 3, "hidden_size": 32, "rank": 1, "world_size": 2,
        "matroyshka_probability": 0.25, "matroyshka_min_log2": 4, "pins_memory": False,
    }  # fmt: skip
    assert {name: getattr(planner, name) for name in expected} == expected
    on_cuda = build_planner(settings, architecture, {}, ranks, torch.device("cuda"))
    assert on_cuda.pins_memory


def test_what_was_opened_is_what_the_next_start_finds(make_model_folder):
    folder = make_model_folder()
    request = RunRequest(
        folder=folder, training=load_training(folder / "training.json"), quiet=True
    )
    with open_run(request) as trainer:
        assert trainer.state.step == 0
        assert trainer.last_step == 12
        assert trainer.saver.verified_steps == set()
    assert train(folder, "--stop-after", 4) == 0
    with open_run(replace(request, stop_after=3)) as trainer:
        assert trainer.state.step == 4
        assert trainer.last_step == 7
        assert trainer.saver.verified_steps == {4}
        assert trainer.saver.details["num_devices"] == 1
        weights = load_file(folder / "checkpoint-4" / "model.safetensors")
        found = trainer.engine.weights()
        for name, tensor in weights.items():
            assert torch.equal(found[f"encoder.network.{name}"], tensor), name
    facts = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()][-1]
    assert facts["checkpoint"] == str(folder / "checkpoint-4")
    assert facts["hardware"]["kernels"] == "torch"
    assert facts["hardware"]["peak_flops"] == trainer.peak_flops > 0
    assert facts["training"]["batch_size"] == 4
