import json

import pytest

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.encoder.folder.opened import read_text_files
from kl3m_embeddings.encoder.folder.sentence_modules import read_sentence_modules
from kl3m_embeddings.errors import ConfigError
from tests.benchmark.folders import write_model


def test_a_folder_is_read_but_for_its_weights(tmp_path):
    path = write_model(tmp_path / "model", prompts={"query": "w1 "})
    (path / "model.safetensors").unlink()
    folder, modules, tokenizer = read_text_files(str(path))
    assert folder == path
    assert modules == read_sentence_modules(path)
    assert modules.prompts == {"query": "w1 "}
    assert tokenizer.fingerprint == load_tokenizer(path).fingerprint


def test_the_tokenizer_lies_beside_the_transformer_wherever_that_is(tmp_path):
    path = write_model(tmp_path / "model")
    entries = json.loads((path / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    (path / "modules.json").write_text(json.dumps(entries))
    (path / "0_Transformer").mkdir()
    for file in [*path.glob("*token*.json"), path / "config.json"]:
        file.rename(path / "0_Transformer" / file.name)
    tokenizer = read_text_files(path)[2]
    assert tokenizer.fingerprint == load_tokenizer(path / "0_Transformer").fingerprint


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        read_text_files(str(tmp_path / "none"))
    path = write_model(tmp_path / "model")
    (path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        read_text_files(path)
