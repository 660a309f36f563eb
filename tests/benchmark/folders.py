"""Small models and tasks on disk, one task of each type."""

import json

import numpy as np

from kl3m_embeddings.encoder.embedding_head import EmbeddingHead
from kl3m_embeddings.encoder.folder.export import write_model_folder
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.folder.sentence_modules import SentenceModules
from kl3m_embeddings.files.checkpoint import save_checkpoint
from kl3m_embeddings.files.latest import point_latest
from tests.encoder.tiny import PAD_ID, tiny_config, tiny_tokenizer
from tests.files.sealed import DETAILS

MAX_LENGTH = 16


def write_model(folder, *, seed=1, model_type="bert", dense=(), with_tokenizer=True, **export):
    """A model folder as training writes it; the seed makes its weights.

    Further arguments are of the head, `pooling` and `normalise`, or fields of its SentenceModules.
    """
    encoder = build_encoder(tiny_config(model_type), seed=seed).eval()
    of_head = {key: export.pop(key) for key in ("pooling", "normalise") if key in export}
    write_model_folder(
        folder,
        encoder,
        tokenizer_pad_id=PAD_ID,
        max_length=MAX_LENGTH,
        head=EmbeddingHead(encoder.hidden_size, dense=dense, **of_head).eval(),
        modules=SentenceModules(**export),
    )
    if with_tokenizer:
        tiny_tokenizer(folder)
        (folder / "special_tokens_map.json").write_text('{"mask_token": "[UNK]"}')
    return folder


def write_run(folder, steps=()):
    """A run's folder with checkpoints, as if it had been trained; each has other weights."""
    folder.mkdir()
    (folder / "training.json").write_text("{}")
    for step in steps:
        save_checkpoint(folder, step, lambda path, seed=step: write_model(path, seed=seed), DETAILS)
        point_latest(folder, f"checkpoint-{step}")
    return folder


def sentences(count, seed=0):
    """Texts of 2 to 12 words, all different."""
    generator = np.random.default_rng(seed)
    found = {}
    while len(found) < count:
        words = generator.integers(46, size=int(generator.integers(2, 13)))
        found[" ".join(f"w{word}" for word in words)] = None
    return list(found)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_settings(folder, kind, **fields):
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"name": folder.name, "type": kind} | fields
    (folder / "task.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def ranking_rows(seed=0):
    """Documents (half of them with a title), queries, and grades 0 to 2, some of them missing."""
    generator = np.random.default_rng(seed)
    documents = [
        {"_id": f"d{n}", "title": "w1 w2" if n % 2 else "", "text": text}
        for n, text in enumerate(sentences(24, seed))
    ]
    queries = [{"_id": f"q{n}", "text": text} for n, text in enumerate(sentences(9, seed + 1))]
    grades = [
        (f"q{query}", f"d{document}", int(place < 3) + int(place < 1))
        for query in range(len(queries))
        for place, document in enumerate(generator.permutation(len(documents))[:6])
    ]
    return documents, queries, grades


def write_retrieval(folder, *, seed=0, **fields):
    documents, queries, grades = ranking_rows(seed)
    write_settings(folder, fields.pop("type", "Retrieval"), **fields)
    write_rows(folder / "corpus.jsonl", documents)
    write_rows(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, grade)) for grade in grades)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder


def candidate_rows(seed=0):
    """The judged documents of each query."""
    candidates = {}
    for query, document, _ in ranking_rows(seed)[2]:
        candidates.setdefault(query, []).append(document)
    return [{"query-id": query, "corpus-ids": ids} for query, ids in candidates.items()]


def write_reranking(folder, *, seed=0, **fields):
    write_retrieval(folder, seed=seed, type="Reranking", **fields)
    write_rows(folder / "candidates.jsonl", candidate_rows(seed))
    return folder


def pair_rows(key, seed=0, count=30):
    first, second = sentences(count, seed), sentences(count, seed + 1)
    values = np.random.default_rng(seed).integers(2 if key == "label" else 6, size=count).tolist()
    return [
        {"sentence1": one, "sentence2": other, key: value}
        for one, other, value in zip(first, second, values, strict=True)
    ]


def write_sts(folder, *, seed=0, **fields):
    write_settings(folder, "STS", **fields)
    write_rows(folder / "test.jsonl", pair_rows("score", seed))
    return folder


def write_pair_classification(folder, *, seed=0, **fields):
    write_settings(folder, "PairClassification", **fields)
    write_rows(folder / "test.jsonl", pair_rows("label", seed))
    return folder


def labelled_rows(count, seed=0, num_labels=3):
    return [
        {"text": text, "label": "abc"[number % num_labels]}
        for number, text in enumerate(sentences(count, seed))
    ]


def write_classification(folder, *, seed=0, num_labels=3, **fields):
    write_settings(folder, "Classification", **{"num_experiments": 3} | fields)
    write_rows(folder / "train.jsonl", labelled_rows(36, seed, num_labels))
    write_rows(folder / "test.jsonl", labelled_rows(20, seed + 1, num_labels))
    return folder


def write_clustering(folder, *, seed=0, **fields):
    write_settings(folder, "Clustering", **fields)
    write_rows(folder / "test.jsonl", labelled_rows(30, seed))
    return folder


WRITERS = {
    "Retrieval": write_retrieval,
    "Reranking": write_reranking,
    "STS": write_sts,
    "PairClassification": write_pair_classification,
    "Classification": write_classification,
    "Clustering": write_clustering,
}
