import pytest
from transformers import AutoConfig

from kl3m_embeddings.encoder.folder.networks import (
    auto_class,
    check_sequence_length,
    max_sequence_length,
    positions,
)
from kl3m_embeddings.errors import ConfigError
from tests.encoder.tiny import PAD_ID, tiny_config


def test_the_sequences_must_fit(tmp_path):
    assert max_sequence_length(tiny_config()) == 40
    roberta = tiny_config("roberta")
    check_sequence_length(roberta, 36, tmp_path)
    with pytest.raises(ConfigError, match=r"max_position_embeddings: 40 is too small for .* 37"):
        check_sequence_length(roberta, 37, tmp_path)


SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": PAD_ID,
}


WITHOUT_TABLE = ("modernbert",)


@pytest.mark.parametrize(
    ("model_type", "longest", "from_padding"),
    [
        ("bert", 40, False),
        ("electra", 40, False),
        ("roberta", 36, True),
        ("xlm-roberta", 36, True),
        ("camembert", 36, True),
        ("mpnet", 38, True),
        ("longformer", 36, True),
        ("ibert", 36, True),
        ("data2vec-text", 36, True),
        ("roberta-prelayernorm", 36, True),
        ("xlm-roberta-xl", 36, True),
        ("yoso", 40, False),
        ("nystromformer", 40, False),
        ("modernbert", 40, False),
        ("deberta-v2", 40, False),
        ("t5", None, False),
        ("umt5", None, False),
        ("xlnet", None, False),
    ],
)
def test_positions_are_those_of_the_network(model_type, longest, from_padding):
    without = {"max_position_embeddings"} if longest is None else set()
    sizes = {key: size for key, size in SIZES.items() if key not in without}
    own = {"d_head": 8} if model_type == "xlnet" else {}
    config = AutoConfig.for_model(model_type, **sizes, **own)
    from_table = None if model_type in WITHOUT_TABLE else longest
    assert positions(config) == (longest, from_table, from_padding)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("bert", "AutoModelForMaskedLM"),
        ("t5", "AutoModelForTextEncoding"),
        ("longformer", "AutoModelForTextEncoding"),
        ("xlnet", "AutoModel"),
        ("gpt2", "AutoModel"),
    ],
)
def test_the_class_is_the_one_that_reads_texts(model_type, name):
    assert auto_class(AutoConfig.for_model(model_type)).__name__ == name


@pytest.mark.parametrize(
    ("model_type", "what"),
    [
        ("bart", "an encoder-decoder"),
        ("mbart", "an encoder-decoder"),
        ("whisper", "an encoder-decoder"),
        ("vit", "not an encoder of texts"),
        ("wav2vec2", "not an encoder of texts"),
        ("clip", "not an encoder of texts"),
    ],
)
def test_what_reads_no_texts_is_refused_by_name(model_type, what):
    with pytest.raises(ConfigError, match=f"model_type '{model_type}': {what}"):
        auto_class(AutoConfig.for_model(model_type))


def test_settings_that_make_no_network_are_one_line():
    config = AutoConfig.for_model("bert", **SIZES | {"num_attention_heads": 5})
    with pytest.raises(
        ConfigError, match="model_type 'bert': transformers cannot build it"
    ) as told:
        positions(config)
    assert "\n" not in str(told.value)
