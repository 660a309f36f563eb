import json

import pytest
import torch
from safetensors.torch import save_file

from kl3m_embeddings.encoder.folder.sentence_modules import (
    read_sentence_modules,
)
from kl3m_embeddings.errors import ConfigError, DataError
from tests.encoder.folder.old_folder import FLAGS, write


@pytest.mark.parametrize(
    ("flag", "pooling"),
    [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"),
        (None, "mean"),
    ],
)
def test_each_boolean_is_a_pooling_and_none_is_the_mean(folder, flag, pooling):
    flags = {**FLAGS, "pooling_mode_mean_tokens": False}
    write(folder / "1_Pooling" / "config.json", {**flags, **({flag: True} if flag else {})})
    assert read_sentence_modules(folder).pooling == pooling


@pytest.mark.parametrize(("limit", "length"), [(24, 24), (100, 40), (10**30, None), (None, None)])
def test_without_a_length_of_its_own_the_tokenizer_says_it(folder, limit, length):
    (folder / "sentence_bert_config.json").unlink()
    write(folder / "tokenizer_config.json", {"model_max_length": limit})
    assert read_sentence_modules(folder).max_seq_length == length


def test_settings_beside_a_nested_transformer_and_under_an_early_name(folder):
    entries = json.loads((folder / "modules.json").read_text())
    entries[0]["path"] = "0_RoBERTa"
    write(folder / "modules.json", entries)
    (folder / "0_RoBERTa").mkdir()
    (folder / "sentence_bert_config.json").rename(
        folder / "0_RoBERTa" / "sentence_roberta_config.json"
    )
    assert read_sentence_modules(folder).max_seq_length == 16


def test_dense_weights_must_be_safetensors_and_fit(folder):
    weights = folder / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.zeros(4, 8)}, weights)
    with pytest.raises(ConfigError, match=r"safetensors: holds .* but .*linear\.bias.* by config"):
        read_sentence_modules(folder)
    ruined = {"linear.weight": torch.full((4, 8), torch.inf), "linear.bias": torch.zeros(4)}
    save_file(ruined, weights)
    with pytest.raises(DataError, match=rf"{weights}: linear\.weight: not all .* are finite"):
        read_sentence_modules(folder)


@pytest.mark.parametrize("limit", ["24", 0, -1, 24.0])
def test_a_longest_text_that_is_no_whole_number_is_told(folder, limit):
    (folder / "sentence_bert_config.json").unlink()
    write(folder / "tokenizer_config.json", {"model_max_length": limit})
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json: model_max_length: .*must be"):
        read_sentence_modules(folder)


@pytest.mark.parametrize("key", ["config_args", "tokenizer_args", "model_kwargs"])
def test_arguments_that_make_another_model_are_refused(folder, key):
    path = folder / "sentence_bert_config.json"
    settings = json.loads(path.read_text())
    write(path, settings | {key: {"attn_implementation": "sdpa", "dtype": "bfloat16"}})
    assert read_sentence_modules(folder).max_seq_length == 16
    for arguments in ({"num_hidden_layers": 1}, ["num_hidden_layers"]):
        write(path, settings | {key: arguments})
        with pytest.raises(ConfigError, match=f"{key}: .*num_hidden_layers.* cannot be trained"):
            read_sentence_modules(folder)


def test_texts_must_be_embedded_by_the_last_states(folder):
    path = folder / "sentence_bert_config.json"
    settings = json.loads(path.read_text())
    last = {"method": "forward", "method_output_name": "last_hidden_state"}
    write(path, settings | {"modality_config": {"text": last}})
    assert read_sentence_modules(folder).max_seq_length == 16
    for text in (last | {"method_output_name": "pooler_output"}, None):
        write(path, settings | {"modality_config": {"text": text}})
        with pytest.raises(ConfigError, match="modality_config: texts must be embedded by"):
            read_sentence_modules(folder)
