import pytest

from kl3m_embeddings.encoder.folder.same_architecture import changes_network, differences
from tests.tiny_model import TINY_CONFIG


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tie_word_embeddings": True, "pad_token_id": 7, "unknown": 1, "dtype": "float16"}, {}),
        ({"hidden_act": "relu"}, {"hidden_act": ("gelu", "relu")}),
        ({"position_buckets": 8}, {"position_buckets": (16, 8)}),
        ({"hidden_dropout_prob": 0.0}, {"hidden_dropout_prob": (0.1, 0.0)}),
    ],
)
def test_files_are_compared_by_what_they_mean(change, expected):
    assert differences(TINY_CONFIG, TINY_CONFIG | change) == expected


def test_what_changes_the_network_is_told_from_what_trains_it():
    network = ("model_type", "hidden_act", "num_attention_heads", "layer_norm_eps", "n_heads")
    training = ("hidden_dropout_prob", "attention_dropout", "initializer_range", "eos_token_id")
    assert [key for key in (*network, *training, "id2label") if changes_network(key)] == [*network]
