"""Fine-tuning by the command: from a model with prompts, with guides, prefixes, held-out pairs."""

import json
import re
import shutil

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.encoder.folder.sentence_modules import read_sentence_modules
from kl3m_embeddings.encoder.text_encoder import TextEncoder
from kl3m_embeddings.files.checkpoint import checkpoint_steps
from tests.train.runs import assert_same_run, log_rows

PROMPTS = {"query": "find: ", "document": "text: "}
PAIRS = {"pairs": {"probability": 1.0, "num_negatives": 1}}
WITH_MARGIN = PAIRS["pairs"] | {"loss": {"name": "infonce", "false_negative_margin": 0.0}}


def train(folder, *arguments):
    return main([str(folder), *map(str, arguments), "--quiet"])


def read(path):
    return json.loads(path.read_text())


@pytest.fixture
def base(make_model_folder):
    """A trained folder in sentence-transformers' form, with prompts and a tokenizer."""
    folder = make_model_folder("base", pooling="cls", normalise=True)
    assert train(folder, "--stop-after", 2) == 0
    path = folder / "checkpoint-2" / "config_sentence_transformers.json"
    path.write_text(json.dumps(read(path) | {"prompts": PROMPTS}))
    return folder / "checkpoint-2"


def tuned_folder(make_model_folder, base, name="tuned", **fields):
    """A model folder with nothing but training.json."""
    fields = {"tasks": PAIRS, "init_from": str(base), "tokenizer": None} | fields
    folder = make_model_folder(name, **fields)
    (folder / "config.json").unlink()
    return folder


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


def test_the_card_says_what_is_exported(make_model_folder, base):
    path = base / "config_sentence_transformers.json"
    said = {"similarity_fn_name": "dot", "default_prompt_name": "query", "truncate_dim": 16}
    path.write_text(json.dumps(read(path) | said))
    folder = tuned_folder(make_model_folder, base)
    assert train(folder, "--stop-after", 1) == 0
    exported = SentenceTransformer(str(folder / "latest"), device="cpu")
    assert exported.similarity_fn_name == "dot"
    assert exported.encode("court order").shape == (16,)
    card = (folder / "latest" / "README.md").read_text()
    assert "| Similarity | dot |" in card
    assert "| Cut to dimensions, unless told | 16 |" in card
    assert "Without `prompt_name`, texts get the prompt named query." in card


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


@pytest.mark.slow
@pytest.mark.parametrize("margin", [-2.0, 2.0])
def test_a_guide_decides_which_negatives_count(make_model_folder, base, margin):
    """With a margin of -2 every candidate is more similar than allowed, with 2 none is."""
    loss = {"name": "infonce", "false_negative_margin": margin}
    tasks = {"pairs": {"probability": 1.0, "num_negatives": 1, "loss": loss, "guide": str(base)}}
    whole, parts = (
        tuned_folder(make_model_folder, base, name, tasks=tasks) for name in ("whole", "parts")
    )
    assert train(whole) == 0
    assert train(parts, "--stop-after", 3) == 0
    assert train(parts) == 0
    assert_same_run(whole, parts)
    losses = [row["loss"] for row in log_rows(whole / "log.jsonl")]
    assert all((loss == 0) == (margin < 0) for loss in losses)


@pytest.mark.slow
def test_a_guide_that_changed_is_asked_again(make_model_folder, base, capsys):
    tasks = {"pairs": WITH_MARGIN | {"guide": str(base.parent)}}
    for number, asked in enumerate((True, False, True)):
        if number == 2:
            assert train(base.parent, "--stop-after", 2) == 0
        folder = tuned_folder(make_model_folder, base, f"run-{number}", tasks=tasks)
        capsys.readouterr()
        assert train(folder, "--stop-after", 1) == 0
        assert ("embedding" in capsys.readouterr().err) == asked


@pytest.mark.parametrize(
    ("file", "old", "new", "is_same"),
    [
        ("config_sentence_transformers.json", '"query": "', '"query": "find ', False),
        ("sentence_bert_config.json", '"max_seq_length": 32', '"max_seq_length": 16', False),
        ("config.json", '"layer_norm_eps": 1e-07', '"layer_norm_eps": 0.1', False),
        ("config.json", "{", "{ ", True),
        ("README.md", "\n", "\n\n", True),
    ],
)
def test_a_run_does_not_go_on_with_another_guide(
    make_model_folder, base, tmp_path, capsys, file, old, new, is_same
):
    """Not even one of the same name and weights; how its files are spaced is no matter."""
    guide = shutil.copytree(base, tmp_path / "guide")
    tasks = {"pairs": WITH_MARGIN | {"guide": str(guide)}}
    folder = tuned_folder(make_model_folder, base, tasks=tasks)
    assert train(folder, "--stop-after", 4) == 0
    text = (guide / file).read_text()
    assert old in text
    (guide / file).write_text(text.replace(old, new, 1))
    capsys.readouterr()
    assert train(folder, "--stop-after", 1) == (0 if is_same else 2)
    message = capsys.readouterr().err
    assert ("embedding" in message) == (not is_same)
    assert is_same or re.search(r"pairs\.train: was '\w+ with guide \w+', is '", message)


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


def test_pairs_are_named_on_the_command_line(make_model_folder, base, tiny_pair_files):
    folder = tuned_folder(make_model_folder, base, pairs={}, eval={})
    named = ("--pairs", f"mine={tiny_pair_files['train']}")
    held_out = ("--eval-pairs", f"checked={tiny_pair_files['held_out']}")
    assert train(folder, *named, *held_out) == 0
    assert all(row["samples_by_dataset"] == {"mine": 4} for row in log_rows(folder / "log.jsonl"))
    assert all(0 <= row["checked/ndcg@10"] <= 1 for row in log_rows(folder / "eval.jsonl"))


@pytest.mark.parametrize(("limit", "num_documents"), [(40, 40), (500, 180), (None, 180)])
def test_documents_that_are_left_out_are_told(
    make_model_folder, base, tiny_pair_files, capsys, limit, num_documents
):
    held_out = {"path": str(tiny_pair_files["train"]), "max_rows": 5, "max_documents": limit}
    folder = tuned_folder(make_model_folder, base, eval={"pairs": {"mine": held_out}})
    assert train(folder, "--stop-after", 1) == 0
    said = "warning: mine: queries are asked among 40 of 180 documents: its metrics are higher"
    assert capsys.readouterr().err.count(said) == (num_documents < 180)
    assert log_rows(folder / "eval.jsonl")[0]["mine/num_documents"] == num_documents


@pytest.mark.slow
def test_the_best_checkpoint_by_a_metric_is_kept(make_model_folder, base):
    save = {"keep_last": 1, "keep_best": True, "best_metric": "held_out/mrr@10"}
    folder = tuned_folder(
        make_model_folder, base, save=save, steps_per_save=2, steps_per_eval=2, max_length=32
    )
    assert train(folder) == 0
    rows = log_rows(folder / "eval.jsonl")
    best = max(rows, key=lambda row: row["held_out/mrr@10"])["step"]
    assert set(checkpoint_steps(folder)) == {best, 12}


@pytest.mark.parametrize("name", ["held_out/ndgc@10", "nothing/ndcg@10", "ndcg@10"])
def test_a_metric_that_is_not_evaluated(make_model_folder, base, capsys, name):
    folder = tuned_folder(make_model_folder, base, save={"best_metric": name})
    assert train(folder) == 2
    assert f"save.best_metric: {name} is not evaluated" in capsys.readouterr().err
    assert not (folder / "log.jsonl").exists()


def graded(loss, **fields):
    """A run on labels, which `{files}` stands for the files of."""
    tasks = {"pairs": {"probability": 1.0, "loss": loss}}
    return fields | {"tasks": tasks, "pairs": {"graded": {"path": "{files}"}}}


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"tasks": {"pairs": PAIRS["pairs"] | {"num_negatives": 3}}}, 65, "3 negatives"),
        ({"tasks": {"pairs": 1.0}, "batch_size": 1}, 2, "batch_size 1 leaves infonce nothing"),
        ({"tasks": {"crop": 1.0}, "batch_size": 1}, 2, "batch_size 1 leaves infonce nothing"),
        (graded("cosent", batch_size=1), 2, "batch_size 1 leaves cosent nothing"),
        (graded("online_contrastive", batch_size=1), 2, "batch_size 1 leaves online_contrastive"),
        (
            {"tasks": {"pairs": PAIRS["pairs"] | {"matryoshka_dims": [64, 16]}}},
            2,
            "tasks.pairs.matryoshka_dims: 64 is larger than the embedding (32)",
        ),
        (
            {"query_prefix": "@" * 30},
            2,
            "query_prefix: '@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@' has 30 tok",
        ),
        (
            {"tasks": {"pairs": PAIRS["pairs"] | {"seq_len": 8}}, "document_prefix": "@@@@@@"},
            2,
            "document_prefix: '@@@@@@' has 6 tokens, which leaves none of 8 for a text: "
            "shorten it, or raise tasks.pairs.seq_len",
        ),
        ({"eval": {"dims": [64]}}, 2, "eval.dims: 64 is larger than the embedding (32)"),
        ({"pairs": {}}, 2, "no set of pairs"),
        ({"pairs": {"gone": {"path": "/nowhere.jsonl"}}}, 65, "/nowhere.jsonl"),
        ({"tasks": {"pairs": WITH_MARGIN | {"guide": "/nowhere"}}}, 2, "/nowhere"),
        ({"batch_size": 64}, 65, "a batch takes 64"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(
    make_model_folder, base, tiny_pair_files, capsys, fields, code, says
):
    fields = json.loads(json.dumps(fields).replace("{files}", str(tiny_pair_files["graded"])))
    folder = tuned_folder(make_model_folder, base, **fields)
    assert train(folder) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (folder / "log.jsonl").exists()


BAD_ROWS = {
    "no positive": {"query": "court order", "positive": []},
    "positive equal to its query": {"query": "court order", "positive": ["court order"]},
    "not a text": {"query": "court order", "positive": 3},
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_are_left_out_and_counted(
    make_model_folder, base, tiny_pair_files, tmp_path, capsys, kind
):
    good = tiny_pair_files["train"].read_text()
    path = tmp_path / "bad.jsonl"
    path.write_text(good + json.dumps(BAD_ROWS[kind]) + "\n")
    folder = tuned_folder(make_model_folder, base, pairs={"bad": {"path": str(path)}})
    assert main([str(folder), "--stop-after", "1"]) == 0
    assert f"1 {kind}" in capsys.readouterr().err


def test_a_restart_that_fails_leaves_the_old_run_as_it_was(make_model_folder, capsys):
    folder = make_model_folder()
    assert train(folder, "--stop-after", 4) == 0
    before = sorted(folder.rglob("*"))
    assert train(folder, "--restart", "--data", "gone=/nowhere.jsonl") == 65
    assert sorted(folder.rglob("*")) == before
    assert train(folder, "--restart", "--stop-after", 4) == 0
    assert (folder / "previous-1" / "checkpoint-4").is_dir()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(make_model_folder, capsys, device):
    assert train(make_model_folder(), "--device", device) == 2
    message = capsys.readouterr().err
    assert f"error: --device {device}: " in message
    assert len(message.splitlines()) == 1
