"""Fine-tuning from a model with prompts: what is trained, prefixes, and what is exported."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.encoder.folder.sentence_modules import read_sentence_modules
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.metrics.labelled import spearman
from tests.encoder.folder.stock_folder import (
    RARE,
    USUAL,
    write_network,
    write_sentence_modules,
    write_tokenizer,
)
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


@pytest.mark.parametrize(
    ("kind", "longest"), [("modernbert", 60), ("deberta-v2", 60), ("bert", 40)]
)
def test_texts_are_trained_as_long_as_the_base_embeds_them(
    make_model_folder, tmp_path, kind, longest
):
    """Rotary and relative positions go on behind max_position_embeddings (40); tables end there."""
    base = tmp_path / "base"
    write_tokenizer(write_network(base, kind), model_max_length=512)
    write_sentence_modules(base)
    (base / "sentence_bert_config.json").write_text('{"max_seq_length": 60}')
    assert open_model(base).max_length == longest
    for name, given in (("unsaid", None), ("said", longest)):
        folder = tuned_folder(make_model_folder, base, name, max_length=given)
        assert train(folder, "--stop-after", 1) == 0
        assert train(folder, "--stop-after", 1) == 0  # the run's own length stays as it was
        assert open_model(folder).max_length == longest
    folder = tuned_folder(make_model_folder, base, "longer", max_length=longest + 1)
    assert train(folder, "--stop-after", 1) == 2


def test_texts_without_a_side_are_measured_behind_the_prompt_that_is_exported(
    make_model_folder, base, tmp_path
):
    """The default prompt is called "query", and a prefix stands for it."""
    task = tmp_path / "task"
    task.mkdir()
    (task / "task.json").write_text(json.dumps({"name": "alike", "type": "STS"}))
    texts = ["the court order", "an agency", "the statute", "court fees", "a review of the order"]
    pairs = [(one, other) for one in texts for other in texts if one < other]
    rows = (
        {"sentence1": one, "sentence2": other, "score": number}
        for number, (one, other) in enumerate(pairs)
    )
    (task / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = base / "config_sentence_transformers.json"
    path.write_text(json.dumps(read(path) | {"default_prompt_name": "query"}))
    measured = []
    for prefix in (None, "an order of the agency: "):
        folder = tuned_folder(
            make_model_folder,
            base,
            f"run {prefix}",
            query_prefix=prefix,
            precision="float32",
            pooling="mean",  # the first token hardly knows of the others yet
            steps_per_eval=2,
            eval={"tasks": [str(task)], "pairs": {}},
        )
        assert train(folder, "--stop-after", 1) == 0
        exported = SentenceTransformer(str(folder / "checkpoint-0"), device="cpu")
        first, second = (exported.encode(side) for side in zip(*pairs, strict=True))
        found = exported.similarity_pairwise(first, second).numpy()
        row = log_rows(folder / "eval.jsonl")[0]
        measured.append(row["tasks/alike/cosine_spearman"])
        assert measured[-1] == pytest.approx(spearman(found, np.arange(len(pairs))), abs=1e-6)
    assert measured[0] != measured[1]


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
