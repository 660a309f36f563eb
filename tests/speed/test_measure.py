import json

import pytest
import torch

from kl3m_embeddings.commands.bench import compare, grow, table, write
from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.report.plots.growth import growth_figure
from kl3m_embeddings.speed import growth
from kl3m_embeddings.speed.measure import describe_machine, measure, medians
from kl3m_embeddings.speed.sides import SIDES, Work, changed, ours, random_batch, transformers
from tests.tiny_model import TINY_CONFIG

WORK = Work(batch_size=4, length=24, precision="float32")
CPU = torch.device("cpu")


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.json"
    without_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    path.write_text(json.dumps(TINY_CONFIG | without_dropout))
    return path


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


@pytest.mark.parametrize("side", SIDES)
def test_numbers_of_a_side(config_file, side):
    numbers = measure(side, load_architecture(config_file), WORK, CPU, 2)
    phases = sum(numbers[f"{name}_s"] for name in ("forward", "backward", "optimizer"))
    assert phases == pytest.approx(numbers["step_s"], rel=0.5)
    assert numbers["tokens_per_s"] == pytest.approx(96 / numbers["step_s"])
    assert 5 < numbers["first_loss"] < 7
    assert numbers["flops_limit"] > 0
    assert numbers["peak_memory_gb"] > 0.1


def test_targets_and_sizes(config_file):
    batch = random_batch(load_architecture(config_file), Work(batch_size=8, length=50))
    assert batch.input_ids.shape == (8, 50)
    assert len(batch.target_positions.unique()) == 60
    assert torch.equal(batch.input_ids.flatten()[batch.target_positions], batch.target_labels)
    work = Work(length=64, num_layers=1, vocab_size=512)
    config = changed(load_architecture(config_file), work)
    sizes = config.max_position_embeddings, config.num_hidden_layers, config.vocab_size
    assert sizes == (64, 1, 512)


def test_growth_holds_the_other_sizes(config_file):
    rows = list(growth.points(load_architecture(config_file), Work(batch_size=4, length=128)))
    assert {axis for axis, *_ in rows} == {"batch", "length", "layers", "vocabulary"}
    assert all(work.num_tokens == 512 for axis, _, work in rows if axis != "batch")
    assert [size for axis, size, _ in rows if axis == "vocabulary"] == [80, 160, 320, 640, 1280]
    assert len({(axis, size) for axis, size, _ in rows}) == len(rows)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sides_take_turns_and_what_fails_is_left_out(config_file, tmp_path, monkeypatch, capsys):
    settings = {"device": "cpu", "num_steps": 1}
    report = compare(["ours", "transformers"], config_file, WORK, 1, settings)
    assert report["medians"]["ours"] == medians(report["runs"]["ours"])
    assert "ours" in table(report["medians"], WORK)
    points = [("batch", 4, WORK), ("layers", 2, Work(batch_size=4, length=24, num_layers=0))]
    monkeypatch.setattr(growth, "points", lambda *_: points)
    rows = grow(config_file, load_architecture(config_file), WORK, settings)
    assert [(row["axis"], row["size"]) for row in rows] == [("batch", 4)]
    assert "warning: layers 2: left out" in capsys.readouterr().err
    assert growth_figure(rows, describe_machine("cpu")).axes
    write(tmp_path / "new" / "speed.json", report)
    assert json.loads((tmp_path / "new" / "speed.json").read_text()) == report
