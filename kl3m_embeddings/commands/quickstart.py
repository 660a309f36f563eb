"""`kl3m quickstart`: from the text on this machine to an encoder, its plots and what it has learnt.

1. The documentation of the installed Python packages becomes three datasets.
2. A byte-level tokenizer is trained on it.
3. models/kl3m-quickstart/ is trained; called again, it goes on where it stopped.
4. The plots are drawn.
5. A table compares the encoder with guessing by frequency, and shows neighbours of three queries.

Each step is skipped if its result is there.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kl3m_embeddings.commands.run_text import RunText
    from kl3m_embeddings.encoder.build import MaskedEncoder
    from kl3m_embeddings.train.baseline import UnigramBaseline

VOCAB_SIZE = 16384
NUM_CANDIDATES = 4000  # of each dataset
NUM_NEIGHBOURS = 3
QUERIES = (
    "Return the eigenvalues of a symmetric matrix.",
    "Permission is granted to use, copy and modify this software free of charge.",
    "Open a file and read its contents as text.",
)


def quickstart(
    folder: Annotated[Path, typer.Option(help="The model folder to train.")] = Path(
        "models/kl3m-quickstart"
    ),
    data: Annotated[Path, typer.Option(help="Where the corpus and the tokenizer go.")] = Path(
        "data/quickstart"
    ),
) -> int:
    """Train an encoder on the documentation that is on this machine, in minutes."""
    from kl3m_embeddings.commands import describe, train

    started = time.perf_counter()
    _heading(1, "Text: the documentation of the installed Python packages", data)
    make_corpus(data)
    _heading(2, f"Tokenizer: byte-level BPE with {VOCAB_SIZE:,} ids", data / "tokenizer")
    make_tokenizer(data)
    _heading(3, "Training; stop it with Ctrl-C and it goes on from there", folder)
    if code := train.main([str(folder)]):
        return code
    _heading(4, "Statistics and plots", folder)
    if code := describe.main([str(folder)]):
        return code
    _heading(5, "What was learnt", folder / "latest")
    show_results(folder)
    minutes = (time.perf_counter() - started) / 60
    print(f"\nDone in {minutes:.1f} minutes. Next:")
    print(f"  poetry run python describe.py {folder}/log.jsonl    # the plots again")
    print("  poetry run kl3m corpus build NAME=PATH --tokenizer ... --out ...    # your own text")
    print("  poetry run python train_single.py models/kl3m-embedding-005/ --data NAME=PATH ...")
    return 0


def _heading(number: int, text: str, place: Path) -> None:
    print(f"\n[{number}/5] {text} -> {place}", flush=True)


def make_corpus(data: Path) -> None:
    """Extract the installed documentation, unless it is there."""
    from kl3m_embeddings.data.default_corpus import write_default_corpus

    if (data / "pairs_heldout.jsonl").exists():
        print("there already")
        return
    files, _ = write_default_corpus(data)
    for file in files:
        print(f"{file.path}: {file.num_rows:,} rows, {file.num_bytes / 1e6:.1f} MB")


def make_tokenizer(data: Path) -> None:
    """Train the tokenizer, unless it is there."""
    from kl3m_embeddings.data.documents import iter_documents
    from kl3m_embeddings.data.tokenizer_training import train_tokenizer

    if (data / "tokenizer" / "tokenizer_config.json").exists():
        print("there already")
        return
    paths = [data / f"{name}.jsonl" for name in ("docstrings", "licences", "readmes")]
    texts = (document.text for path in paths for document in iter_documents(path))
    train_tokenizer(texts, VOCAB_SIZE, data / "tokenizer")


def show_results(folder: Path) -> None:
    """Print held-out loss and accuracy beside the unigram baseline, and nearest neighbours."""
    from kl3m_embeddings.commands.run_text import build_evaluator, open_text
    from kl3m_embeddings.config_file import load_training
    from kl3m_embeddings.encoder.architecture import load_architecture
    from kl3m_embeddings.encoder.build import load_encoder
    from kl3m_embeddings.train.baseline import unigram_baseline

    training = load_training(folder / "training.json")
    architecture = load_architecture(folder / "config.json")
    text = open_text(training, architecture, folder / "config.json")
    evaluator = build_evaluator(training, text)
    assert evaluator is not None
    baseline = unigram_baseline(text.train.corpus, evaluator, text.tokenizer.vocab_size)
    rows = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    print_learnt(rows[0], rows[-1], baseline)
    print_neighbours(load_encoder(folder / "latest"), text)


def print_learnt(first: dict[str, Any], last: dict[str, Any], baseline: "UnigramBaseline") -> None:
    """A table of held-out loss and accuracy."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Masked tokens of held-out documents")
    table.add_column("predicted by")
    table.add_column("mean loss (nats)", justify="right")
    table.add_column("accuracy", justify="right")
    for name, loss, accuracy in (
        (f"the encoder before training (step {first['step']})", first["mean"], first["accuracy"]),
        ("token frequency alone", baseline.mean_loss, baseline.accuracy),
        (f"the encoder (step {last['step']})", last["mean"], last["accuracy"]),
    ):
        table.add_row(name, f"{loss:.2f}", f"{accuracy:.1%}")
    Console().print(table)


def print_neighbours(encoder: "MaskedEncoder", text: "RunText") -> None:
    """For each query, the nearest of some thousand documents."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from kl3m_embeddings.encoder.encode import encode_ids

    tokenizer, window = text.tokenizer, text.train.corpus.window
    documents = [
        (shards, number)
        for shards in text.shards
        for number in range(0, shards.num_documents, -(-shards.num_documents // NUM_CANDIDATES))
    ]

    def framed(ids: Sequence[int]) -> list[int]:
        return [tokenizer.cls_id, *ids[:window], tokenizer.sep_id]

    candidates = [framed(shards.document_tokens(n).tolist()) for shards, n in documents]
    queries = [framed(tokenizer.encode(query)) for query in QUERIES]
    vectors = encode_ids(encoder, [*candidates, *queries], pad_id=tokenizer.pad_id)
    vectors -= vectors[: len(candidates)].mean(axis=0)  # all texts share a direction: leave it out
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors[len(candidates) :] @ vectors[: len(candidates)].T
    table = Table(title=f"Nearest of {len(candidates):,} documents (mean pooling, centred cosine)")
    table.add_column("query", max_width=24)
    table.add_column("cosine", justify="right")
    table.add_column("document, and its first words")
    for query, row in zip(QUERIES, scores, strict=True):
        for rank, place in enumerate(np.argsort(-row)[:NUM_NEIGHBOURS]):
            shards, number = documents[place]
            words = " ".join(tokenizer.backend.decode(candidates[place][1:-1]).split())
            found = Text.assemble((shards.document_id(number), "bold"), f" {words[:80]}")
            table.add_row(query if rank == 0 else "", f"{row[place]:.2f}", found)
        table.add_section()
    Console().print(table)
