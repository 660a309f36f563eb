"""Which checkpoints are written and kept."""

import json

import pytest
import torch

from kl3m_embeddings.config.training import SaveConfig
from kl3m_embeddings.engine.base import TrainState
from kl3m_embeddings.engine.ranks import Ranks
from kl3m_embeddings.engine.single import SingleEngine
from kl3m_embeddings.engine.state_files import read_tensors, read_train_state
from kl3m_embeddings.files.checkpoint import TRAINER, checkpoint_steps, verify
from kl3m_embeddings.train.logs import NoWriter
from kl3m_embeddings.train.saver import RuinedError, Saver


class Weights(SingleEngine):
    """An engine of nothing but weights."""

    def __init__(self, **weights):
        self.ranks, self.device = Ranks(), torch.device("cpu")
        self.named = {name.replace("_", "."): torch.tensor(one) for name, one in weights.items()}

    def weights(self):
        return self.named

    def optimizer_state(self):
        return {"encoder.a|exp_avg": torch.tensor([5.0])}


class Log(NoWriter):
    """A log of so many bytes."""

    def sync(self):
        return 17


ENGINE = Weights(encoder_a=[1.0], heads_b=[2.0])


@pytest.fixture
def make_saver(tmp_path):
    """A function that makes a saver, whose models are their weights' names and steps."""

    def make(**config):
        def write_model(path, state, weights):
            (path / "model.json").write_text(json.dumps([state.step, sorted(weights)]))

        return Saver(
            folder=tmp_path,
            config=SaveConfig(**config),
            write_model=write_model,
            details={"identity": {}, "num_threads": 1},
        )

    return make


def save(saver, *steps, **state):
    for step in steps:
        saver.save(ENGINE, TrainState(step=step, **state), {"log.jsonl": Log()})
    return sorted(checkpoint_steps(saver.folder))


def test_what_is_in_a_checkpoint(make_saver, tmp_path):
    """The model; the heads, the optimizer and the state; where the logs end."""
    assert save(make_saver(), 3, best_step=2) == [3]
    path = tmp_path / "checkpoint-3"
    assert (tmp_path / "latest").resolve() == path
    assert verify(path).manifest["log_offsets"] == {"log.jsonl": 17}
    assert verify(path).manifest["num_threads"] == 1
    assert json.loads((path / "model.json").read_text()) == [3, ["encoder.a", "heads.b"]]
    state, tensors = (
        read_train_state(path / TRAINER),
        read_tensors(path / TRAINER, ["heads", "optimizer"]),
    )
    assert (state.step, state.best_step) == (3, 2)
    assert state.log_offsets == {"log.jsonl": 17}
    assert list(tensors["heads"]) == ["heads.b"]
    assert list(tensors["optimizer"]) == ["encoder.a|exp_avg"]


@pytest.mark.parametrize(
    ("config", "best_step", "kept"),
    [
        ({"keep_last": 2}, None, [4, 5]),
        ({"keep_last": 1}, None, [4, 5]),  # the newest is not known to be good yet
        ({"keep_last": 3}, None, [3, 4, 5]),
        ({"keep_last": 1, "keep_every": 3}, None, [3, 4, 5]),
        ({"keep_last": 1, "keep_best": True}, 1, [1, 4, 5]),
        ({"keep_last": 1, "keep_best": True}, None, [4, 5]),
        ({"keep_last": 1}, 1, [4, 5]),
    ],
)
def test_which_are_kept(make_saver, config, best_step, kept):
    assert save(make_saver(**config), 1, 2, 3, 4, 5, best_step=best_step) == kept


def test_a_step_that_is_saved_is_not_written_again(make_saver, tmp_path):
    """Unless its checkpoint was taken away meanwhile."""
    saver = make_saver()
    save(saver, 3)
    before = (tmp_path / "checkpoint-3" / "model.json").stat().st_mtime_ns
    save(saver, 3)
    assert (tmp_path / "checkpoint-3" / "model.json").stat().st_mtime_ns == before
    (tmp_path / "checkpoint-3").rename(tmp_path / "elsewhere")
    assert save(saver, 3) == [3]


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf"), 1e20, -1e38])
def test_weights_that_are_ruined_are_not_saved(make_saver, tmp_path, weight):
    saver = make_saver()
    save(saver, 3)
    broken = Weights(encoder_a=[1.0, weight])
    with pytest.raises(RuinedError, match="weights are not finite, or above 1e19, at step 4"):
        saver.save(broken, TrainState(step=4), {})
    assert checkpoint_steps(tmp_path) == [3]
    assert saver.verified_steps == {3}
    saver.save(Weights(encoder_a=[1e18]), TrainState(step=5), {})
    assert checkpoint_steps(tmp_path) == [5, 3]
