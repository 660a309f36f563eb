"""Fine-tuning from a model with prompts: what is trained, prefixes, and what is exported."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from kl3m_embeddings.encoder.folder.sentence_modules import read_sentence_modules
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from tests.encoder.folder.stock_folder import RARE, USUAL, write_network, write_tokenizer
from tests.run.tuned import PAIRS, PROMPTS, read, train, tuned_folder
from tests.train.runs import assert_same_run, log_rows


def test_a_folder_with_training_json_alone_trains_resumes_and_exports(make_model_folder, base):
    whole, parts = (tuned_folder(make_model_folder, base, name) for name in ("whole", "parts"))
    assert train(whole) == 0
    assert train(parts, "--stop-after", 5) == 0
    assert train(parts) == 0
    assert_same_run(whole, parts)
    assert read(whole / "config.json") == read(base / "config.json")
    exported = SentenceTransformer(str(whole / "latest"), device="cpu")
    assert exported.prompts == PROMPTS
    assert exported[1].pooling_mode == "cls"
    vectors = exported.encode(["court order", "the statute"], prompt_name="query")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("given", [None, "", "ask: "])
def test_prefixes_are_the_models_own_unless_given(make_model_folder, base, given):
    """None: as the model's prompts; a text replaces them, in training and in the export."""
    folder = tuned_folder(make_model_folder, base, query_prefix=given)
    assert train(folder, "--stop-after", 1) == 0
    expected = PROMPTS["query"] if given is None else given
    config = read(folder / "latest" / "config_sentence_transformers.json")
    assert config["prompts"] == PROMPTS | {"query": expected}


def test_a_prefix_comes_before_other_names_of_the_same_side(make_model_folder, base):
    """sentence-transformers looks for "document" first; E5's prompt is called "passage"."""
    path = base / "config_sentence_transformers.json"
    e5 = {"query": "query: ", "passage": "passage: "}
    path.write_text(json.dumps(read(path) | {"prompts": e5}))
    for given, expected in ((None, "passage: "), ("", ""), ("text: ", "text: ")):
        folder = tuned_folder(make_model_folder, base, f"run {expected}", document_prefix=given)
        assert train(folder, "--stop-after", 1) == 0
        exported = SentenceTransformer(str(folder / "latest"), device="cpu")
        assert exported.prompts == e5 | {"document": expected}
        assert read_sentence_modules(folder / "latest").document_prompt == expected
        np.testing.assert_allclose(
            exported.encode_document("the statute"),
            exported.encode("the statute", prompt=expected),
            rtol=1e-5,
        )


def test_prefixes_are_trained_on(make_model_folder, base):
    """They are tokens of every text, and change the loss."""
    prefixes = ({"query_prefix": "", "document_prefix": ""}, {})
    rows = []
    for number, fields in enumerate(prefixes):
        folder = tuned_folder(make_model_folder, base, f"run-{number}", max_length=32, **fields)
        assert train(folder, "--stop-after", 1) == 0
        rows += log_rows(folder / "log.jsonl")
    assert rows[1]["num_tokens"] > rows[0]["num_tokens"]
    assert rows[1]["loss"] != rows[0]["loss"]


@pytest.mark.parametrize("max_length", [32, None])
def test_texts_are_exported_as_long_as_they_were_evaluated(make_model_folder, base, max_length):
    tasks = {"pairs": PAIRS["pairs"] | {"seq_len": 8}}
    plain = {"query_prefix": "", "document_prefix": ""}
    folder = tuned_folder(make_model_folder, base, tasks=tasks, max_length=max_length, **plain)
    assert train(folder, "--stop-after", 4) == 0
    assert train(folder, "--stop-after", 4) == 0  # the run's own length stays as it was
    exported = SentenceTransformer(str(folder / "latest"), device="cpu")
    assert exported.max_seq_length == 8
    assert "| Longest text (tokens) | 8 |" in (folder / "latest" / "README.md").read_text()
    trained = TextEncoder.load(folder / "latest", precision="float32")
    text = "the court shall review any order of an agency that is final"
    ids = trained.model.tokenizer.encode(text)
    assert len(ids) > 8
    vectors = trained.encode([text, trained.model.tokenizer.backend.decode(ids[:6])])
    np.testing.assert_allclose(exported.encode([text]), vectors[:1], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


OFTEN = ("t5", "xlnet")  # encoder of an encoder-decoder; no limit of positions


@pytest.mark.parametrize(
    "kind",
    [
        *OFTEN,
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in (*USUAL, *RARE)
            if kind not in OFTEN
        ),
    ],
)
def test_every_architecture_is_trained_and_exported(make_model_folder, tmp_path, kind):
    """The config.json that the first start copies is read as a person's when the run goes on."""
    model = tmp_path / "model"
    model.mkdir()
    write_tokenizer(write_network(model, kind))
    folder = tuned_folder(make_model_folder, model, data={}, steps_per_eval=2)
    assert train(folder, "--stop-after", 2) == 0
    assert train(folder, "--stop-after", 1) == 0
    texts = ["a lamp", "How To Measure It", "a long way home " * 12]
    stock = SentenceTransformer(str(folder / "latest"), device="cpu")
    theirs = np.concatenate([stock.encode([text]) for text in texts])
    ours = TextEncoder.load(folder, precision="float32").encode(texts)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert ((ours * theirs).sum(axis=1) / lengths).min() > 0.999
