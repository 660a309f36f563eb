import json

import pytest

from tests.tiny_model import TINY_CONFIG


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.json"
    without_dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    path.write_text(json.dumps(TINY_CONFIG | without_dropout))
    return path
