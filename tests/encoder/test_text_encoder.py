"""Any model folder embeds as sentence-transformers does; what differs has another fingerprint."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kl3m_embeddings.encoder import text_encoder
from kl3m_embeddings.encoder.embedding_head import DenseSettings
from kl3m_embeddings.encoder.kernels.precision import cpu_has_bfloat16, default_precision
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.errors import ConfigError
from tests.benchmark.folders import sentences, write_model

TEXTS = [
    *sentences(12),
    " ".join(f"w{n}" for n in range(40)),  # cut
    "",
    " w1  w2 ",
    "nothing known",
]
DENSE = (DenseSettings(in_features=32, out_features=20, activation="Tanh"),)
FORMS = {
    "mean": {},
    "cls": {"pooling": "cls", "normalise": True},
    "max": {"pooling": "max"},
    "cut": {"normalise": True, "truncate_dim": 8},
    "dense": {"dense": DENSE, "normalise": True},
    "deberta": {"model_type": "deberta-v2", "pooling": "cls"},
}


def load(folder, **options):
    return TextEncoder.load(folder, **{"precision": "float32"} | options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_those_of_sentence_transformers(tmp_path, form):
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "w40 w41 ", "document": "w42 "}
    folder = write_model(tmp_path / "model", prompts=prompts, **FORMS[form])
    theirs = SentenceTransformer(str(folder), device="cpu")
    ours = load(folder)
    size = {"cut": 8, "dense": 20}.get(form, 32)
    assert ours.embedding_size == size
    assert ours.model.max_length == 16
    for name, prompt in (("query", "w40 w41 "), ("document", "w42 ")):
        vectors = ours.encode(TEXTS, prompt=prompt)
        assert vectors.shape == (len(TEXTS), size)
        np.testing.assert_allclose(vectors, theirs.encode(TEXTS, prompt_name=name), atol=1e-5)
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("text_encoder") / "model", normalise=True)


@pytest.fixture(scope="module")
def loaded(folder):
    return load(folder)


def test_neither_order_nor_company_matters(loaded):
    vectors = loaded.encode(TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_allclose(
        loaded.encode([TEXTS[row] for row in order]), vectors[order], atol=1e-6
    )
    alone = np.concatenate([loaded.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, vectors, atol=1e-6)


def test_blocks_are_joined_in_order(loaded, monkeypatch):
    whole = loaded.encode(TEXTS)
    monkeypatch.setattr(text_encoder, "TEXTS_PER_BLOCK", 5)
    done = []
    np.testing.assert_allclose(loaded.encode(TEXTS, on_texts=done.append), whole, atol=1e-6)
    assert sum(done) == len(TEXTS)


def test_no_texts_have_no_vectors(loaded):
    assert loaded.encode([]).shape == (0, 32)


def test_texts_are_cut_where_training_cuts(loaded):
    words = [f"w{n}" for n in range(20)]
    cut, just, less = (loaded.encode([" ".join(words[:size])]) for size in (20, 14, 13))
    np.testing.assert_array_equal(cut, just)
    assert not np.allclose(just, less)


def test_bfloat16_is_near(folder, loaded):
    near = load(folder, precision="bfloat16").encode(TEXTS)
    assert near.dtype == np.float32
    exact = loaded.encode(TEXTS)
    assert 0 < np.abs(near - exact).max() < 0.05
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, atol=1e-5)


def test_precision_is_the_devices_unless_given(folder):
    chosen = TextEncoder.load(folder).precision
    assert chosen == default_precision(torch.device("cpu"))
    assert (chosen == "bfloat16") == cpu_has_bfloat16()


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weight(path):
    tensors = load_file(path)
    # the masked head is in the file, too, and no vector depends on it
    name = next(name for name in sorted(tensors) if "layer.1." in name or "linear." in name)
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, path, metadata={"format": "pt"})


CHANGES = {
    "weight": lambda folder: change_weight(folder / "model.safetensors"),
    "dense": lambda folder: change_weight(next(folder.glob("2_*")) / "model.safetensors"),
    "activation": lambda folder: change_json(
        next(folder.glob("2_*")) / "config.json", activation_function="torch.nn.ReLU"
    ),
    "architecture": lambda folder: change_json(folder / "config.json", layer_norm_eps=1e-3),
    "tokenizer": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text().replace('"w7"', '"other"')
    ),
    "length": lambda folder: change_json(folder / "sentence_bert_config.json", max_seq_length=12),
    "truncate_dim": lambda folder: change_json(
        folder / "config_sentence_transformers.json", truncate_dim=8
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_all_that_vectors_depend_on_is_in_the_fingerprint(tmp_path, change):
    folder = write_model(tmp_path / "model", dense=DENSE)
    before = load(folder).fingerprint
    CHANGES[change](folder)
    assert load(folder).fingerprint != before


def test_pooling_and_precision_are_in_the_fingerprint(tmp_path, folder):
    others = [
        write_model(tmp_path / str(number), **fields)
        for number, fields in enumerate(
            [{}, {"pooling": "cls"}, {"pooling": "cls", "normalise": True}]
        )
    ]
    found = {load(one).fingerprint for one in (folder, *others)}
    assert len(found | {load(folder, precision="bfloat16").fingerprint}) == 5


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path, folder, loaded):
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied)
    assert load(copied).fingerprint == load(str(folder)).fingerprint == loaded.fingerprint


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    folder = write_model(tmp_path / "model", with_tokenizer=False)
    with pytest.raises(ConfigError, match=r"model.*tokenizer") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load(tmp_path)
