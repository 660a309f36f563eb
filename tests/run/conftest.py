import json

import pytest

from tests.run.tuned import PROMPTS, read, train


@pytest.fixture
def base(make_model_folder):
    """A trained folder in sentence-transformers' form, with prompts and a tokenizer."""
    folder = make_model_folder("base", pooling="cls", normalise=True)
    assert train(folder, "--stop-after", 2) == 0
    path = folder / "checkpoint-2" / "config_sentence_transformers.json"
    path.write_text(json.dumps(read(path) | {"prompts": PROMPTS}))
    return folder / "checkpoint-2"
