import json
from dataclasses import asdict

import torch

from kl3m_embeddings.engine.base import Engine, TrainState


def test_a_state_is_json_and_back():
    state = TrainState(
        step=7, total_time=1.5, last_eval={"mean": None}, grad_norms=[1.0, None], best_step=3
    )
    assert TrainState(**json.loads(json.dumps(asdict(state), allow_nan=False))) == state


def test_states_share_nothing():
    one, other = TrainState(), TrainState()
    one.grad_norms.append(1.0)
    one.last_eval["mean"] = 2.0
    one.log_offsets["log.jsonl"] = 3
    assert other == TrainState()


def test_an_engine_is_known_by_its_verbs(make_engine):
    assert isinstance(make_engine(), Engine)
    assert not isinstance(torch.nn.Linear(1, 1), Engine)
