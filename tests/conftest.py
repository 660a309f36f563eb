"""A tiny tokenizer, corpus and model folder; everything a run needs, made in a second."""

import json
import os

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Without a GPU, Triton's kernels are interpreted. It has to know before its first import, which
# transformers may be the one to make.
os.environ.setdefault("TRITON_INTERPRET", "0" if torch.cuda.is_available() else "1")

import pytest
from hypothesis import settings

from kl3m_embeddings.data.samples.corpus import open_corpora
from kl3m_embeddings.data.shards.build import build_shards
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.encoder.hardware import LARGEST_MATRIX, SMALLEST_MATRIX
from kl3m_embeddings.tasks.base import TextSource
from tests.tiny_model import TINY_CONFIG, tiny_documents, tiny_pairs

torch.set_num_threads(1)
# the device's peak is measured at every evaluation; here none depends on it
LARGEST_MATRIX["cpu"] = SMALLEST_MATRIX
# the same examples every time, however busy the machine
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory):
    """A byte-level BPE tokenizer of at most 300 ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizer")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|cls|>", "<|sep|>", "<|mask|>", "<|unk|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([one["text"] for one in tiny_documents()], trainer)
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_tokenizer_folder):
    return load_tokenizer(tiny_tokenizer_folder)


@pytest.fixture(scope="session")
def tiny_corpus_files(tmp_path_factory):
    """Two JSONL files by name."""
    folder = tmp_path_factory.mktemp("corpus")
    paths = {}
    for seed, name in enumerate(("statutes", "opinions")):
        paths[name] = folder / f"{name}.jsonl"
        lines = [json.dumps(one) for one in tiny_documents(seed=seed)]
        paths[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


@pytest.fixture(scope="session")
def tiny_pair_files(tmp_path_factory):
    """JSONL files by name: pairs with negatives, graded ones, and held-out pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    pairs = tiny_pairs()
    labels = [0.0, 0.25, 0.5, 1.0]
    contents = {
        "train": pairs,
        "other": tiny_pairs(40, seed=5),
        "graded": [
            {
                "sentence1": row["query"],
                "sentence2": row["positive"][0],
                "score": labels[number % 4],
            }
            for number, row in enumerate(pairs)
        ],
        "held_out": tiny_pairs(30, seed=9, num_negatives=0),
    }
    paths = {}
    for name, rows in contents.items():
        paths[name] = folder / f"{name}.jsonl"
        lines = [json.dumps(row) for row in rows]
        paths[name].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


@pytest.fixture(scope="session")
def shard_cache(tmp_path_factory):
    """Where raw text becomes shards; shared by the session's runs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_model_folder(
    tmp_path, tiny_tokenizer_folder, tiny_corpus_files, tiny_pair_files, shard_cache, monkeypatch
):
    """A function that makes a model folder; keyword arguments replace fields of training.json.

    With the task `pairs` it has two sets of pairs and two held-out ones, unless told otherwise.
    """
    files = {name: {"path": str(path)} for name, path in tiny_pair_files.items()}
    of_pairs = {
        "pairs": {name: files[name] for name in ("train", "other")},
        "eval": {"pairs": {name: files[name] for name in ("held_out", "graded")}},
    }
    monkeypatch.setenv("KL3M_CACHE", str(shard_cache))

    def make(name="model", *, config=None, **fields):
        folder = tmp_path / name
        folder.mkdir()
        training = {
            "tokenizer": str(tiny_tokenizer_folder),
            "precision": "float32",
            "batch_size": 4,
            "data": {key: {"path": str(path)} for key, path in tiny_corpus_files.items()},
            "tasks": {"mlm": 1.0},
            "steps_per_save": 4,
            "steps_per_eval": 6,
            "num_eval_samples": 6,
            "optimizer": {"total_steps": 12, "warmup_steps": 4, "peak_lr": 1e-3},
        }
        training |= of_pairs if "pairs" in fields.get("tasks", {}) else {}
        training |= fields
        (folder / "config.json").write_text(json.dumps(TINY_CONFIG | (config or {})))
        (folder / "training.json").write_text(json.dumps(training))
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_shards(tiny_corpus_files, tiny_tokenizer, tmp_path_factory):
    """The two files as built shards, by name."""
    folder = tmp_path_factory.mktemp("shards")
    return {
        name: build_shards(name, [path], tiny_tokenizer, folder).shards
        for name, path in tiny_corpus_files.items()
    }


@pytest.fixture(scope="session")
def make_sources(tiny_shards, tiny_tokenizer):
    """A function that opens the training text and the held-out one, as sources of batches."""

    def make(*, max_length=32, seed=0, weights=None, num_held_out=6):
        corpora = open_corpora(
            list(tiny_shards.values()),
            weights,
            window=max_length - 2,
            seed=seed,
            num_held_out=num_held_out,
        )
        return tuple(
            corpus and TextSource(corpus, tiny_tokenizer, max_length, seed) for corpus in corpora
        )

    return make
