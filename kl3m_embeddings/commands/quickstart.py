"""`kl3m quickstart`: from the text on this machine to an embedding model, and what it has learnt.

1. The documentation of the installed Python packages becomes three datasets, and pairs of a
   function's summary line with the rest of its documentation.
2. A byte-level tokenizer is trained on it.
3. models/kl3m-quickstart/ learns the language by predicting masked tokens.
4. models/kl3m-quickstart-embed/ goes on from there: a summary should find its documentation.
5. A table compares the first with what token frequency alone would predict, on held-out text.
6. mteb scores how well summaries find their documentation in packages that were held out, beside
   baselines, and report.html shows all of it on one page.

Each step is skipped if its result is there; training goes on where it stopped.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

VOCAB_SIZE = 16384


def quickstart(
    folder: Annotated[Path, typer.Option(help="The model folder to train.")] = Path(
        "models/kl3m-quickstart"
    ),
    embed_folder: Annotated[Path, typer.Option(help="The one that goes on with pairs.")] = Path(
        "models/kl3m-quickstart-embed"
    ),
    data: Annotated[Path, typer.Option(help="Where the corpus and the tokenizer go.")] = Path(
        "data/quickstart"
    ),
) -> int:
    """Train an embedding model on the documentation that is on this machine, in minutes."""
    from kl3m_embeddings.commands import describe, train
    from kl3m_embeddings.commands.quickstart_results import print_masked_tokens

    started = time.perf_counter()
    _heading(1, "Text: the documentation of the installed Python packages", data)
    make_corpus(data)
    _heading(2, f"Tokenizer: byte-level BPE with {VOCAB_SIZE:,} ids", data / "tokenizer")
    make_tokenizer(data)
    _heading(3, "Masked tokens; stop it with Ctrl-C and it goes on from there", folder)
    if code := train.main([str(folder)]):
        return code
    _heading(4, "Pairs", embed_folder)
    if code := train.main([str(embed_folder)]):
        return code
    _heading(5, "What masked tokens have taught", folder)
    if code := describe.main([str(folder)]):
        return code
    print_masked_tokens(folder)
    _heading(6, "What pairs have taught, beside words in common", embed_folder)
    task = make_retrieval_task(data)
    scored = ["--task", str(task), "--baseline", "bm25", "--baseline", "random"]
    if code := describe.main([str(embed_folder), *scored]):
        return code
    minutes = (time.perf_counter() - started) / 60
    print(f"\nDone in {minutes:.1f} minutes. Next:")
    print(f"  open {embed_folder}/report.html    # all of it on one page")
    print("  poetry run kl3m corpus build NAME=PATH --tokenizer ... --out ...    # your own text")
    print("  poetry run python train_single.py models/kl3m-embedding-005/ --data NAME=PATH ...")
    return 0


def _heading(number: int, text: str, place: Path) -> None:
    print(f"\n[{number}/6] {text} -> {place}", flush=True)


def make_corpus(data: Path) -> None:
    """Extract the installed documentation, unless it is there."""
    from kl3m_embeddings.data.installed.default_corpus import write_default_corpus

    if (data / "pairs_heldout.jsonl").exists():
        print("there already")
        return
    files, _ = write_default_corpus(data)
    for file in files:
        print(f"{file.path}: {file.num_rows:,} rows, {file.num_bytes / 1e6:.1f} MB")


def make_retrieval_task(data: Path) -> Path:
    """The held-out pairs as a task, unless it is there."""
    from kl3m_embeddings.local_tasks.make import make_local_task

    folder = data / "HeldOutPackages"
    if not folder.exists():
        fields = {
            "name": folder.name,
            "type": "Retrieval",
            "description": "Which documentation belongs to a summary line?",
        }
        make_local_task(
            data / "pairs_heldout.jsonl", folder, fields, columns={"document": "positive"}
        )
    return folder


def make_tokenizer(data: Path) -> None:
    """Train the tokenizer, unless it is there."""
    from kl3m_embeddings.data.readers.documents import iter_documents
    from kl3m_embeddings.data.tokenizer.training import train_tokenizer

    if (data / "tokenizer" / "tokenizer_config.json").exists():
        print("there already")
        return
    paths = [data / f"{name}.jsonl" for name in ("docstrings", "licences", "readmes")]
    texts = (document.text for path in paths for document in iter_documents(path))
    train_tokenizer(texts, VOCAB_SIZE, data / "tokenizer")
