"""A model is opened by one function, whatever names it, and its fingerprint is of its content."""

import json
import shutil

import pytest
import tokenizers
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing

from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.encoder.embedding_head import DenseSettings
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.folder.sentence_modules import read_sentence_modules
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.errors import ConfigError, DataError
from tests.benchmark.folders import write_model, write_run

PROMPTS = {"query": "w40 w41 ", "document": "w42 "}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a package on the path."""
    folder = tmp_path / "site" / "a_model_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_model_is_read_but_for_its_weights(tmp_path):
    path = write_model(tmp_path / "model", prompts={"query": "w1 "})
    (path / "model.safetensors").unlink()
    opened = open_model(str(path))
    assert opened.folder == opened.transformer == path
    assert opened.modules == read_sentence_modules(path)
    assert opened.modules.prompts == {"query": "w1 "}
    assert opened.tokenizer.fingerprint == load_tokenizer(path).fingerprint


def test_the_tokenizer_lies_beside_the_transformer_wherever_that_is(tmp_path):
    path = write_model(tmp_path / "model")
    entries = json.loads((path / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    (path / "modules.json").write_text(json.dumps(entries))
    (path / "0_Transformer").mkdir()
    for file in [*path.glob("*token*.json"), path / "config.json"]:
        file.rename(path / "0_Transformer" / file.name)
    opened = open_model(path)
    assert opened.transformer == path / "0_Transformer"
    assert opened.tokenizer.fingerprint == load_tokenizer(opened.transformer).fingerprint


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        open_model(str(tmp_path / "none"))
    path = write_model(tmp_path / "model")
    (path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        open_model(path)


def test_all_ways_to_name_a_model_open_the_same(tmp_path, package):
    """A folder, a package, a run (its newest checkpoint) and a checkpoint in it."""
    run = write_run(tmp_path / "run", steps=(1, 2))
    shutil.copytree(run / "checkpoint-2", package / "model")
    sources = [
        run,
        run / "checkpoint-2",
        run / "latest",
        str(run / "checkpoint-2"),
        package / "model",
        "package:a_model_package/model",
    ]
    opened = [open_model(source) for source in sources]
    assert len({one.fingerprint for one in opened}) == 1
    assert {one.max_length for one in opened} == {16}
    assert opened[0].folder == run / "checkpoint-2"
    assert opened[0].source == str(run)
    assert open_model(run / "checkpoint-1").fingerprint != opened[0].fingerprint


def test_a_run_with_a_damaged_checkpoint_opens_the_one_before(tmp_path, capsys):
    run = write_run(tmp_path / "run", steps=(1, 2))
    (run / "checkpoint-2" / "manifest.json").unlink()
    assert open_model(run).folder == run / "checkpoint-1"
    assert "checkpoint-2" in capsys.readouterr().err


def test_what_is_opened_is_handed_on(tmp_path):
    opened = open_model(write_model(tmp_path / "model", prompts=PROMPTS))
    assert TextEncoder.load(opened).model is opened
    assert (opened.modules.query_prompt, opened.modules.document_prompt) == ("w40 w41 ", "w42 ")


def test_a_tokenizer_of_ones_own_stands_for_the_models(tmp_path):
    folder = write_model(tmp_path / "model", with_tokenizer=False)
    with pytest.raises(ConfigError, match="tokenizer"):
        open_model(folder)
    other = load_tokenizer(write_model(tmp_path / "other"))
    assert open_model(folder, other).tokenizer is other


def test_trainers_state_is_no_part_of_the_model(tmp_path):
    """Nor is a model card: only what vectors depend on."""
    folder = write_model(tmp_path / "model")
    before = open_model(folder).fingerprint
    (folder / "trainer").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "trainer" / "optimizer.safetensors")
    (folder / "README.md").write_text("A model.")
    assert open_model(folder).fingerprint == before


@pytest.mark.parametrize("name", ["query", "document", "none of both"])
def test_prompts_are_part_of_it_as_far_as_they_are_used(tmp_path, name):
    folder = write_model(tmp_path / "model", prompts=PROMPTS)
    before = open_model(folder).fingerprint
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"prompts": PROMPTS | {name: "other "}}))
    assert (open_model(folder).fingerprint == before) == (name == "none of both")


def test_dense_layers_are_part_of_it(tmp_path):
    dense = (DenseSettings(in_features=32, out_features=20, activation="Tanh"),)
    folder = write_model(tmp_path / "model", dense=dense)
    before = open_model(folder).fingerprint
    other = write_model(tmp_path / "other", dense=dense, seed=2)
    (weights,) = folder.glob("2_*/model.safetensors")
    shutil.copy(next(other.glob("2_*")) / "model.safetensors", weights)
    assert open_model(folder).fingerprint != before


def swap(one, other):
    """Each gets the other's name."""
    between = one.with_suffix(".between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def test_files_that_change_names_are_other_weights(tmp_path):
    """What is not loaded is no part of it."""
    folder = write_model(tmp_path / "model")
    before = open_model(folder).fingerprint
    other = write_model(tmp_path / "other", seed=2)
    shutil.copy(other / "model.safetensors", folder / "backup.safetensors")
    assert open_model(folder).fingerprint == before
    swap(folder / "model.safetensors", folder / "backup.safetensors")
    assert open_model(folder).fingerprint == open_model(other).fingerprint != before


def test_the_order_of_dense_layers_is_part_of_it(tmp_path):
    layer = DenseSettings(in_features=32, out_features=32, activation="Tanh")
    folder = write_model(tmp_path / "model", dense=(layer, layer))
    before = open_model(folder).fingerprint
    swap(*(path / "model.safetensors" for path in sorted(folder.glob("*_Dense"))))
    assert open_model(folder).fingerprint != before


def test_shards_are_those_of_the_index(tmp_path):
    folder = write_model(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for index, name in enumerate(sorted(tensors)):
        weight_map[name] = f"model-{index % 2}.safetensors"
    for shard in set(weight_map.values()):
        of_shard = {name: tensors[name] for name in tensors if weight_map[name] == shard}
        save_file(of_shard, folder / shard, metadata={"format": "pt"})
    contents = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(contents))
    before = open_model(folder).fingerprint
    assert TextEncoder.load(folder, precision="float32").encode(["w1"]).shape == (1, 32)
    (folder / "model-2.safetensors").write_bytes(b"not loaded")
    assert open_model(folder).fingerprint == before
    swap(folder / "model-0.safetensors", folder / "model-1.safetensors")
    assert open_model(folder).fingerprint != before


@pytest.mark.parametrize("template", ["[SEP] $A [SEP]", "[CLS] $A", "$A"])
def test_what_stands_around_a_text_is_part_of_it(tmp_path, template):
    """A tokenizer's own fingerprint is of the ids within."""
    folder = write_model(tmp_path / "model")
    before = open_model(folder)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = TemplateProcessing(single=template, special_tokens=special)
    backend.save(str(folder / "tokenizer.json"))
    after = open_model(folder)
    assert after.tokenizer.fingerprint == before.tokenizer.fingerprint
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("setting", [{"truncation_side": "left"}, {"split_special_tokens": True}])
def test_how_a_text_is_cut_and_read_is_part_of_it(tmp_path, setting):
    folder = write_model(tmp_path / "model")
    before = open_model(folder).fingerprint
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    assert open_model(folder).fingerprint != before


def test_without_weights_there_is_no_fingerprint(tmp_path):
    """Not that of nothing, which every such model would share."""
    folder = write_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors: its weights are missing"):
        _ = open_model(folder).fingerprint


@pytest.mark.parametrize(
    "changes", [{"hidden_act": 3}, {"dtype": "flat"}, {"model_type": "no such thing"}]
)
def test_an_architecture_that_cannot_be_read_is_one_line(tmp_path, changes):
    folder = write_model(tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=r"model/config\.json: ") as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ],
)
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_longest_text_must_have_room_for_a_text(tmp_path, file, key, length):
    """Of two tokens, both are special: all texts would be one."""
    folder = write_model(tmp_path / "model")
    (folder / "sentence_bert_config.json").unlink()
    path = folder / file
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(settings | {key: length}))
    if length == 3:
        assert open_model(folder).max_length == length
        return
    with pytest.raises(ConfigError, match=f"longest text is {length} tokens, .*raise") as caught:
        open_model(folder)
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_checkpoint_is_told(tmp_path):
    with pytest.raises(ConfigError, match="has no checkpoint: train it first"):
        open_model(write_run(tmp_path / "run"))
