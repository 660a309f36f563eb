import json

import pytest
from transformers import AutoConfig

from kl3m_embeddings.encoder.folder.architecture import (
    PLAIN,
    check_vocabulary,
    load_architecture,
    read_config,
)
from kl3m_embeddings.errors import ConfigError
from tests.encoder.tiny import tiny_config

KL3M = {
    "_name_or_path": "models/kl3m-embedding-005-deepspeed-1",
    "architectures": ["MatroyshkaDebertaV2ForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "layer_norm_eps": 1e-07,
    "max_position_embeddings": 128,
    "max_relative_positions": -1,
    "model_type": "deberta-v2",
    "norm_rel_ebd": "layer_norm",
    "num_attention_heads": 8,
    "num_hidden_layers": 8,
    "pad_token_id": 0,
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
    "pooler_hidden_size": 256,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 128,
    "relative_attention": True,
    "share_att_key": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.2",
    "type_vocab_size": 0,
    "vocab_size": 65536,
}


def write(tmp_path, fields):
    path = tmp_path / "config.json"
    path.write_text(fields if isinstance(fields, str) else json.dumps(fields))
    return path


def messages(tmp_path, fields):
    path = write(tmp_path, fields)
    with pytest.raises(ConfigError) as error:
        load_architecture(path)
    return [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]


def test_the_published_file_loads(tmp_path):
    config = load_architecture(write(tmp_path, KL3M))
    assert config.dtype is None
    assert (config.hidden_size, config.position_buckets, config.share_att_key) == (256, 128, True)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "modernbert", "distilbert", "electra"])
def test_what_transformers_writes_loads(tmp_path, model_type):
    config = tiny_config(model_type)
    path = write(tmp_path, config.to_json_string(use_diff=False))
    assert load_architecture(path).to_dict() == config.to_dict()


def test_all_errors_are_reported_at_once(tmp_path):
    wrong = {"hiden_size": 3, "hidden_size": "a", "hidden_dropout_prob": 1.5, "hidden_act": "gelo"}
    assert messages(tmp_path, {**KL3M, **wrong}) == [
        "hiden_size: unknown key (did you mean hidden_size?)",
        "hidden_size: expected int, got str (value: 'a')",
        "hidden_act: unknown activation (did you mean gelu?)",
        "hidden_dropout_prob: must be a probability below 1 (it is 1.5)",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_attention_heads": True}, "num_attention_heads: expected int, got bool"),
        ({"hidden_size": 250}, "hidden_size: 250 is not divisible by num_attention_heads (8)"),
        ({"num_attention_heads": 0}, "num_attention_heads: must be greater than 0 (it is 0)"),
        ({"vocab_size": -5, "pad_token_id": None}, "vocab_size: must be greater than 0"),
        ({"pad_token_id": 65536}, "pad_token_id: 65536 is no row of the vocabulary"),
        ({"position_buckets": "128"}, "position_buckets: must be of type int (it is '128')"),
        ({"position_buckets": 0}, "position_buckets: must be -1 (none) or at least 2"),
        ({"share_att_key": 1}, "share_att_key: must be of type bool (it is 1)"),
        ({"pos_att_type": ["p2p"]}, "pos_att_type: 'p2p' is unknown: use c2p, p2c or both"),
        ({"norm_rel_ebd": "rms"}, "norm_rel_ebd: 'rms' is unknown: use none or layer_norm"),
        ({"attention_head_size": 64}, "attention_head_size: must be hidden_size / num_att"),
        ({"model_type": "deberta_v2"}, "model_type: 'deberta_v2' is not an architecture"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps: must be greater than 0 (it is 0.0)"),
        ({"position_bucket": 8}, "position_bucket: unknown key (did you mean position_buckets?)"),
    ],
)
def test_an_impossible_setting_is_named(tmp_path, wrong, message):
    (line,) = messages(tmp_path, {**KL3M, **wrong})
    assert line.startswith(message)


VERSION = {"model_type", "transformers_version"}
# as published: LaBSE, XLM-R, DistilBERT, ModernBERT, ALBERT, an old BERT
STRAYS = {
    "bert": {"directionality": "bidi", "pooler_size_per_head": 128, "eos_token_ids": 0},
    "xlm-roberta": {"output_past": True},
    "distilbert": {"tie_weights_": True},
    "modernbert": {"layer_norm_eps": 1e-5},
    "albert": {"net_structure_type": 0, "gap_size": 0, "down_scale_factor": 1},
}


@pytest.mark.parametrize("model_type", STRAYS)
def test_keys_without_effect_are_warned_of_where_the_model_has_them(tmp_path, model_type, capsys):
    settings = json.loads(tiny_config(model_type).to_json_string(use_diff=False))
    strays = STRAYS[model_type]
    path = write(tmp_path, settings | strays)
    config = load_architecture(path, copied=settings | strays)
    names = ", ".join(strays)
    assert capsys.readouterr().err == (
        f"warning: {path}: without effect, as in the model that it is of: {names}\n"
    )
    own = load_architecture(write(tmp_path, settings)).to_dict()
    assert {key: getattr(config, key, None) for key in own.keys() - VERSION} == {
        key: value for key, value in own.items() if key not in VERSION
    }
    unlike_the_models = settings | dict.fromkeys(strays, "other")
    for copied in (None, settings, unlike_the_models):  # a person has written them
        write(tmp_path, settings | strays)
        with pytest.raises(ConfigError) as error:
            load_architecture(path, copied=copied)
        lines = str(error.value).splitlines()
        assert [line.split(": ")[1] for line in lines] == [*strays]


def test_json_is_read_strictly(tmp_path):
    assert "duplicate key 'vocab_size'" in messages(tmp_path, '{"vocab_size":1,"vocab_size":2}')[0]
    assert "not JSON" in messages(tmp_path, '{"vocab_size": }')[0]


def test_the_tokenizer_must_fit(tmp_path):
    config = tiny_config()
    check_vocabulary(config, 50, tmp_path)
    with pytest.raises(ConfigError, match="vocab_size: 50 is smaller than the tokenizer's 51"):
        check_vocabulary(config, 51, tmp_path)


def test_code_of_a_folder_is_not_run_and_nobody_is_asked_to(tmp_path, monkeypatch):
    code = "from transformers import PretrainedConfig\nclass C(PretrainedConfig):\n    pass\n"
    (tmp_path / "custom.py").write_text(code)
    write(tmp_path, {"model_type": "custom", "auto_map": {"AutoConfig": "custom.C"}})
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(ConfigError, match=r"config\.json: .*custom code"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("bert", "position_embedding_type", "relative_key"),
        ("roberta", "position_embedding_type", "relative_key_query"),
        ("electra", "pruned_heads", {"0": [1]}),
        ("modernbert", "is_decoder", True),
        ("deberta-v2", "add_cross_attention", True),
    ],
)
def test_settings_that_transformers_passes_over_are_refused(tmp_path, model_type, key, value):
    """They say of the weights that they are another network's."""
    settings = json.loads(tiny_config(model_type).to_json_string(use_diff=False))
    (told,) = messages(tmp_path, settings | {key: value})
    assert told == (
        f"{key}: {value!r} is not what transformers computes for {model_type}: "
        f"it always has {PLAIN[key]!r}"
    )
    with pytest.raises(ConfigError, match=f"{key}: .* is not what transformers computes"):
        read_config(tmp_path)
    load_architecture(write(tmp_path, settings | {key: PLAIN[key]}))
    read_config(tmp_path)


def test_quantised_weights_are_refused_by_name(tmp_path):
    settings = json.loads(tiny_config("bert").to_json_string(use_diff=False))
    quantised = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    write(tmp_path, settings | {"quantization_config": quantised})
    with pytest.raises(ConfigError, match=r"config\.json: quantization_config: .* take the model"):
        read_config(tmp_path)
    write(tmp_path, settings | {"quantization_config": None})
    read_config(tmp_path)


def test_what_an_architecture_reads_itself_is_not_refused(tmp_path):
    settings = json.loads(tiny_config("bert").to_json_string(use_diff=False))
    assert load_architecture(write(tmp_path, settings | {"is_decoder": True})).is_decoder


def test_what_only_looks_like_a_setting_is_none(tmp_path):
    """T5's `is_gated_act` is a yes or no; XLNet's limit of positions is -1, for none."""
    for config in (AutoConfig.for_model("t5"), AutoConfig.for_model("xlnet")):
        config.save_pretrained(tmp_path)
        assert load_architecture(tmp_path / "config.json").model_type == config.model_type
