"""Chunking beside bare tokenising: `python benchmarks/chunk.py MODEL CORPUS --rounds 3`.

The sides take turns on the same documents, in this process:

1. `encode_batch` of the documents, one batch of `BATCH_CHARS` after the other: what a chunker that
   needs to know where tokens begin has to do at least;
2. `Chunker.chunk` of the same batches;
3. the whole of `chunk_file`, from the file to the Parquet file, which also reads and writes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

from kl3m_embeddings.data.readers.documents import list_sources, read_records
from kl3m_embeddings.data.readers.records import Document, ReadOptions
from kl3m_embeddings.embed.chunk_corpus import ChunkRequest, build_chunker
from kl3m_embeddings.embed.chunk_file import BATCH_CHARS, chunk_file
from kl3m_embeddings.embed.chunker import ChunkSize
from kl3m_embeddings.encoder.folder.opened import open_model


def batches_of(texts: list[str]) -> list[list[str]]:
    """Texts in batches of about `BATCH_CHARS` characters."""
    batches: list[list[str]] = [[]]
    num_chars = 0
    for text in texts:
        if num_chars >= BATCH_CHARS:
            batches.append([])
            num_chars = 0
        batches[-1].append(text)
        num_chars += len(text)
    return batches


def read_texts(corpus: str, num_documents: int) -> list[str]:
    """The first texts of a file."""
    (source,) = list_sources(corpus)
    items = (record.item for record in read_records([source], ReadOptions()))
    texts = (item.text for item in items if isinstance(item, Document))
    return list(islice(texts, num_documents))


def take_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Each side's median seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(found) for name, found in seconds.items()}


def main() -> None:
    """Print each side's seconds and tokens a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = read_texts(arguments.corpus, arguments.documents)
    batches = batches_of(texts)
    request = ChunkRequest(model=arguments.model, size=ChunkSize(num_tokens=250))
    chunker, _ = build_chunker(request)
    backend = open_model(arguments.model).tokenizer.backend
    num_tokens = sum(len(one) for one in backend.encode_batch_fast(texts, add_special_tokens=False))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        (copy,) = list_sources(corpus)
        sides: dict[str, Callable[[], object]] = {
            "encode_batch": lambda: [
                len(backend.encode_batch(batch, add_special_tokens=False)) for batch in batches
            ],
            "Chunker.chunk": lambda: [len(chunker.chunk(batch)) for batch in batches],
            "chunk_file": lambda: chunk_file(
                copy, Path(folder), "out.parquet", chunker, ReadOptions()
            ),
        }
        seconds = take_turns(sides, arguments.rounds)
    for name, found in seconds.items():
        speed = f"{num_tokens / found:12,.0f} tokens/s {seconds['encode_batch'] / found:6.2f} x"
        print(f"{name:14} {found:7.2f} s {speed}")


if __name__ == "__main__":
    main()
