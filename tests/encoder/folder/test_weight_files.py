"""What lies in the place of weights is told, by whatever opens them, with what helps."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from kl3m_embeddings.encoder.embedding_head import DenseSettings
from kl3m_embeddings.encoder.folder.load import load_encoder
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.folder.weight_files import check_finite, weight_files
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.errors import ConfigError, DataError
from tests.benchmark.folders import write_model

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 90868376\n"
)
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def shard(folder):
    """Split the weights into two files and an index."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    weight_map = {name: SHARDS[index % 2] for index, name in enumerate(sorted(tensors))}
    for file in SHARDS:
        part = {name: tensors[name] for name in tensors if weight_map[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    write_index(folder, weight_map)


def write_index(folder, weight_map):
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(text)


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickle_only(name):
    def change(folder):
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / name)

    return change


def link_to_nothing(folder):
    """A hub's cache that was tidied up."""
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../../blobs/4d7a")


def sharded(change):
    def both(folder):
        shard(folder)
        change(folder)

    return both


LFS = r"a Git LFS pointer, not the file that it stands for: fetch that by `git lfs pull`"
PICKLE = r"weights that are no safetensors, .* where you trust it, and save_pretrained it anew"
INDEX = r"model\.safetensors\.index\.json"
WRONG = {
    "a pointer": (
        write("model.safetensors", POINTER.encode()),
        rf"model/model\.safetensors: {LFS}",
    ),
    "a shard is a pointer": (
        sharded(write(SHARDS[1], POINTER.encode())),
        rf"model-00002-of-00002\.safetensors: {LFS}",
    ),
    "the index is a pointer": (
        sharded(write("model.safetensors.index.json", POINTER.encode())),
        rf"{INDEX}: {LFS}",
    ),
    "a shard is missing": (
        sharded(lambda folder: (folder / SHARDS[0]).unlink()),
        rf"model-00001-of-00002\.safetensors: no such file: {INDEX} names it: fetch it",
    ),
    "the index names no files": (
        sharded(lambda folder: write_index(folder, {"embeddings": 3})),
        rf"{INDEX}: weight_map: must name a file for each weight",
    ),
    "the index leads out": (
        sharded(lambda folder: write_index(folder, {"embeddings": "../elsewhere.safetensors"})),
        rf"{INDEX}: weight_map: must name a file for each weight",
    ),
    "the index is cut": (
        sharded(write("model.safetensors.index.json", b'{"weight')),
        rf"{INDEX}: weight_map: must name a file for each weight",
    ),
    "a pickle": (pickle_only("pytorch_model.bin"), rf"pytorch_model\.bin: {PICKLE}"),
    "a shard of a pickle": (
        pickle_only("pytorch_model-00001-of-00002.bin"),
        rf"pytorch_model-00001-of-00002\.bin: {PICKLE}",
    ),
    "TensorFlow's": (pickle_only("tf_model.h5"), rf"tf_model\.h5: {PICKLE}"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        r"model: no model\.safetensors: its weights are missing: fetch them",
    ),
    "cut": (cut, r"model\.safetensors: no whole safetensors \(.*\): fetch it again"),
    "empty": (write("model.safetensors", b""), r"model\.safetensors: no whole safetensors"),
    "a web page": (
        write("model.safetensors", b"<!doctype html><title>Sign in</title>"),
        r"model\.safetensors: no whole safetensors",
    ),
    "a link to nothing": (link_to_nothing, r"a link to '../../blobs/4d7a', which is not there"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_weights_is_told_wherever_they_are_opened(tmp_path, what):
    change, message = WRONG[what]
    folder = write_model(tmp_path / "model")
    change(folder)
    opened = open_model(folder)
    for use in (load_encoder, TextEncoder.load, lambda _: opened.fingerprint):
        with pytest.raises(DataError, match=message) as caught:
            use(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["a pointer", "a pickle", "no weights", "cut"])
def test_those_of_a_dense_layer_are_weights_too(tmp_path, what):
    change, message = WRONG[what]
    dense = (DenseSettings(in_features=32, out_features=20, activation="Tanh"),)
    folder = write_model(tmp_path / "whole", dense=dense)
    (layer,) = folder.glob("2_*")
    change(layer.rename(folder / "model"))
    (folder / "model").rename(layer)
    with pytest.raises(DataError, match=message.replace("model/", "").replace("model: ", ": ")):
        open_model(folder)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "config.json"]
)
def test_what_stands_beside_weights_may_be_a_pointer_too(tmp_path, name):
    """A vocabulary of three lines would make all texts unknown words, without a word."""
    folder = write_model(tmp_path / "model")
    (folder / name).write_text(POINTER)
    with pytest.raises(ConfigError, match=rf"{name}: {LFS}") as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)


def test_whole_weights_are_all_their_files(tmp_path):
    folder = write_model(tmp_path / "model")
    assert [one.name for one in weight_files(folder)] == ["model.safetensors"]
    torch.save({}, folder / "pytorch_model.bin")  # beside: of no interest
    assert [one.name for one in weight_files(folder)] == ["model.safetensors"]
    vectors = TextEncoder.load(folder, precision="float32").encode(["w1 w2"])
    shard(folder)
    names = ["model.safetensors.index.json", *SHARDS]
    assert [one.name for one in weight_files(folder)] == names
    assert (TextEncoder.load(folder, precision="float32").encode(["w1 w2"]) == vectors).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_ruins_a_model(tmp_path, value):
    good, bad = torch.ones(3, 2), torch.ones(3, 2)
    bad[1, 1] = value
    check_finite(tmp_path, {"a": good}.items())
    with pytest.raises(DataError, match=rf"{tmp_path}: b: not all of its values are finite"):
        check_finite(tmp_path, {"a": good, "b": bad}.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_values_whose_sum_overflows_are_finite_all_the_same(tmp_path, dtype):
    largest = torch.finfo(dtype).max if dtype.is_floating_point else 2**62
    check_finite(tmp_path, {"a": torch.full((3, 2), largest, dtype=dtype)}.items())


def test_infinities_of_both_signs_are_not_finite(tmp_path):
    with pytest.raises(DataError):
        check_finite(tmp_path, {"a": torch.tensor([torch.inf, -torch.inf, 1.0])}.items())
