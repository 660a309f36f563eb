"""Every kind of encoder trains, resumes and exports from a model folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from kl3m_embeddings.commands.train import main
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.encoder.encode import encode_ids
from kl3m_embeddings.encoder.folder.load import load_encoder
from tests.train.runs import assert_same_run, log_rows

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 320,
    "pad_token_id": 0,
}
CONFIGS = {
    "deberta-v2": {},
    "bert": {"model_type": "bert", "max_position_embeddings": 32, **SIZES},
    "roberta": {"model_type": "roberta", "max_position_embeddings": 33, **SIZES},
    "modernbert": {
        "model_type": "modernbert",
        "max_position_embeddings": 32,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "local_attention": 8,
        **SIZES,
    },
}
TASKS = {"mlm": 0.4, "nsp": 0.2, "nlp": 0.2, "mhm": 0.2}


@pytest.fixture
def model_folder(make_model_folder):
    """A function: a model folder with this architecture and every task."""

    def make(name, architecture):
        folder = make_model_folder(name, tasks=TASKS, matroyshka_probability=0.5)
        if CONFIGS[architecture]:
            (folder / "config.json").write_text(json.dumps(CONFIGS[architecture]))
        return folder

    return make


@pytest.mark.parametrize(
    "architecture",
    [
        "deberta-v2",
        "modernbert",
        pytest.param("bert", marks=pytest.mark.slow),
        pytest.param("roberta", marks=pytest.mark.slow),
    ],
)
def test_trains_resumes_and_exports(model_folder, architecture):
    whole, parts = model_folder("whole", architecture), model_folder("parts", architecture)
    assert main([str(whole), "--quiet"]) == 0
    assert main([str(parts), "--quiet", "--stop-after", "5"]) == 0
    assert main([str(parts), "--quiet"]) == 0
    assert_same_run(parts, whole)

    checkpoint = whole / "latest"
    tokenizer = load_tokenizer(checkpoint)
    texts = ["The court shall review any order.", "Notice was given to each party within days."]
    ids = [[tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id][:32] for text in texts]
    stock = AutoTokenizer.from_pretrained(checkpoint)
    assert stock(texts, truncation=True, max_length=32)["input_ids"] == [
        row if len(row) < 32 else [*row[:31], tokenizer.sep_id] for row in ids
    ]
    short = [row if len(row) < 32 else [*row[:31], tokenizer.sep_id] for row in ids]
    ours = encode_ids(load_encoder(checkpoint), short, pad_id=tokenizer.pad_id, normalise=False)
    theirs = SentenceTransformer(str(checkpoint), device="cpu").encode(texts)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    assert AutoModel.from_pretrained(checkpoint).config.pad_token_id == tokenizer.pad_id


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_lower_precision_trains_and_resumes_exactly(make_model_folder, precision):
    whole = make_model_folder("whole", precision=precision, tasks=TASKS)
    parts = make_model_folder("parts", precision=precision, tasks=TASKS)
    assert main([str(whole), "--quiet"]) == 0
    assert main([str(parts), "--quiet", "--stop-after", "5"]) == 0
    assert main([str(parts), "--quiet"]) == 0
    assert_same_run(parts, whole)
    assert not any(row["skipped"] for row in log_rows(whole / "log.jsonl"))


@pytest.mark.slow
def test_compiled_training_follows_eager(make_model_folder):
    """With dropout. In its own process: runtime type checks do not go with torch.compile."""
    eager = make_model_folder("eager")
    compiled = make_model_folder("compiled", compile=True)
    assert main([str(eager), "--quiet", "--stop-after", "4"]) == 0
    command = [sys.executable, "train_single.py", str(compiled), "--quiet", "--stop-after", "4"]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    losses = [
        torch.tensor([row["loss"] for row in log_rows(folder / "log.jsonl")])
        for folder in (eager, compiled)
    ]
    torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-4)
