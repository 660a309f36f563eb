import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.pooling import POOLINGS, finish
from kl3m_embeddings.errors import ConfigError
from tests.encoder.tiny import PAD_ID, tiny_batch, tiny_config, tiny_tokenizer

TYPES = ["bert", "deberta-v2", "modernbert", "roberta"]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("model_type", TYPES)
def test_transformers_opens_the_folder(tmp_path, model_type):
    config = tiny_config(model_type, torch_dtype="bfloat16", architectures=["OwnForMaskedLM"])
    encoder = build_encoder(config, seed=1).eval()
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    input_ids, attention_mask = tiny_batch()
    hidden = encoder.hidden_states(input_ids, attention_mask)
    positions = attention_mask.flatten().nonzero()[:, 0]

    model = AutoModel.from_pretrained(tmp_path).eval()
    states = model(input_ids, attention_mask=attention_mask.long()).last_hidden_state
    torch.testing.assert_close(hidden[attention_mask], states[attention_mask], **CLOSE)
    masked, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert masked.dtype == torch.float32
    logits = masked.eval()(input_ids, attention_mask=attention_mask.long()).logits
    ours = encoder.target_logits(hidden.flatten(0, 1)[positions])
    torch.testing.assert_close(ours, logits.flatten(0, 1)[positions], **CLOSE)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        type(masked).__name__
    ]


def test_the_file_holds_what_transformers_would_write(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    write_model_folder(tmp_path / "ours", encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    AutoModelForMaskedLM.from_config(encoder.config).save_pretrained(tmp_path / "theirs")
    files = [safe_open(tmp_path / name / "model.safetensors", "pt") for name in ("ours", "theirs")]
    assert set(files[0].keys()) == set(files[1].keys())
    assert files[0].metadata() == files[1].metadata() == {"format": "pt"}


@pytest.mark.parametrize("changes", [{"legacy": False}, {"tie_word_embeddings": False}])
def test_other_heads_of_deberta_survive(tmp_path, changes):
    encoder = build_encoder(tiny_config(**changes), seed=1)
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    masked, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    state = masked.state_dict()
    assert all(torch.equal(state[name], t) for name, t in encoder.network.state_dict().items())


def test_given_weights_replace_the_networks_own(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    weights = {name: tensor + 1 for name, tensor in encoder.network.state_dict().items()}
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=PAD_ID, max_length=16, weights=weights)
    state = AutoModelForMaskedLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


def test_the_padding_is_the_tokenizers(tmp_path):
    encoder = build_encoder(tiny_config(), seed=1)
    write_model_folder(tmp_path, encoder, tokenizer_pad_id=2, max_length=16)
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == 2
    encoder = build_encoder(tiny_config("roberta"), seed=1)
    with pytest.raises(ConfigError, match="pad_token_id: roberta counts positions from it"):
        write_model_folder(tmp_path, encoder, tokenizer_pad_id=2, max_length=16)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("model_type", "pooling", "normalise"),
    [*((model_type, "mean", False) for model_type in TYPES), ("deberta-v2", "cls", True)],
)
def test_sentence_transformers_encodes_the_same(tmp_path, model_type, pooling, normalise):
    from sentence_transformers import SentenceTransformer

    encoder = build_encoder(tiny_config(model_type), seed=1).eval()
    write_model_folder(
        tmp_path,
        encoder,
        tokenizer_pad_id=PAD_ID,
        max_length=16,
        pooling=pooling,
        normalise=normalise,
    )
    tiny_tokenizer(tmp_path)
    texts = ["w1 w2 w3", "w9", " ".join(f"w{i}" for i in range(30))]
    model = SentenceTransformer(str(tmp_path), device="cpu")
    assert model.max_seq_length == 16

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    hidden = encoder.hidden_states(batch["input_ids"], batch["attention_mask"])
    pooled = finish(POOLINGS[pooling](hidden, batch["attention_mask"]), normalise=normalise)
    torch.testing.assert_close(torch.tensor(model.encode(texts)), pooled, **CLOSE)
