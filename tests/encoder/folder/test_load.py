import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM

from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder, load_encoder
from kl3m_embeddings.errors import ConfigError, DataError
from tests.encoder.tiny import PAD_ID, tiny_batch, tiny_config

TYPES = ["bert", "deberta-v2", "modernbert", "roberta"]


def written(folder, encoder):
    write_model_folder(folder, encoder, tokenizer_pad_id=PAD_ID, max_length=16)
    return folder


@pytest.mark.parametrize("model_type", TYPES)
def test_a_written_folder_loads_equal(tmp_path, model_type):
    encoder = build_encoder(tiny_config(model_type), seed=1)
    folder = written(tmp_path, encoder)
    loaded = load_encoder(folder)
    assert loaded.fresh_parameters == ()
    state = loaded.network.state_dict()
    for name, tensor in encoder.network.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert (loaded.hidden_size, loaded.vocab_size) == (32, 50)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_bf16_base_model_loads_in_fp32_with_a_seeded_head(tmp_path, model_type):
    AutoModel.from_config(tiny_config(model_type)).to(torch.bfloat16).save_pretrained(tmp_path)
    first, same, other = (load_encoder(tmp_path, seed=seed).eval() for seed in (1, 1, 2))
    assert {tensor.dtype for tensor in first.network.state_dict().values()} == {torch.float32}
    input_ids, attention_mask = tiny_batch()
    theirs = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    expected = theirs(input_ids, attention_mask=attention_mask.long()).last_hidden_state
    hidden = first.hidden_states(input_ids, attention_mask)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(hidden[attention_mask], expected[attention_mask], **close)
    head = next(name for name in first.fresh_parameters if name.endswith("dense.weight"))
    states = [encoder.network.state_dict()[head] for encoder in (first, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_sharded_checkpoint_and_a_nested_transformer_load(tmp_path):
    network = AutoModelForMaskedLM.from_config(tiny_config())
    network.save_pretrained(tmp_path / "0_Transformer", max_shard_size="20KB")
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "0_Transformer"}]))
    assert len(list(tmp_path.glob("*/*.safetensors"))) > 1
    loaded = load_encoder(tmp_path).network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_weights_that_do_not_fit_are_errors(tmp_path):
    folder = written(tmp_path, build_encoder(tiny_config(), seed=0))
    change_config(folder, intermediate_size=64)
    shapes = r"layer\.0\.intermediate\.dense\.bias: shape \(48,\), but \(64,\) by config"
    with pytest.raises(ConfigError, match=shapes):
        load_encoder(folder)
    change_config(folder, intermediate_size=48, num_hidden_layers=1)
    with pytest.raises(ConfigError, match=r"layer\.1\..*too few layers"):
        load_encoder(folder)
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(ConfigError, match=r"layer\.2\..*missing from the checkpoint"):
        load_encoder(folder)
    change_config(folder, model_type="roberta")
    with pytest.raises(ConfigError, match=r"missing .* \(and \d+ more\)$") as told:
        load_encoder(folder)
    assert "\n" not in str(told.value)


def test_folders_without_usable_weights_are_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_encoder(tmp_path)
    folder = written(tmp_path, build_encoder(tiny_config(), seed=0))
    change_weights(folder, lambda tensors: next(iter(tensors.values())).fill_(torch.nan))
    with pytest.raises(DataError, match=rf"{folder}: \S+: not all of its values are finite"):
        load_encoder(folder)


def test_an_adapter_is_not_passed_over(tmp_path):
    folder = written(tmp_path, build_encoder(tiny_config(), seed=0))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"adapter_config\.json: an adapter .*: merge it"):
        load_encoder(folder)
