"""Throughput of `build_shards` beside that of the bare tokenizer, on the same documents.

    python benchmarks/corpus_build.py TOKENIZER SOURCE... [--rounds 5] [--limit-mb 50]

Both sides run alternately, in one process. The bare side has the texts in
memory already and calls `tokenizers.encode_batch` on all of them: it neither reads, parses, checks,
hashes nor writes.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

from kl3m_embeddings.data.readers.documents import iter_documents
from kl3m_embeddings.data.shards.build import build_shards
from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer, load_tokenizer


def main() -> None:
    """Print the seconds and MB/s of both sides, round by round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer")
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-mb", type=float, default=50)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    texts = read_texts(arguments.sources, arguments.limit_mb)
    num_mb = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents, {num_mb:.1f} MB, longest {max(map(len, texts)):,} characters")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "documents.jsonl")
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        bare_mb_s, build_mb_s = [], []
        for number in range(arguments.rounds):
            bare_mb_s.append(num_mb / time_bare(tokenizer, texts))
            build_mb_s.append(num_mb / time_build(tokenizer, source, Path(folder, str(number))))
            print(f"bare {bare_mb_s[-1]:6.2f} MB/s   build {build_mb_s[-1]:6.2f} MB/s", flush=True)
    bare, build = statistics.median(bare_mb_s), statistics.median(build_mb_s)
    ratio = statistics.median(b / a for a, b in zip(bare_mb_s, build_mb_s, strict=True))
    print(
        f"medians: bare {bare:.2f} MB/s, build {build:.2f} MB/s; of the rounds' ratios {ratio:.0%}"
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak memory, the bare side's texts and encodings included: {peak_mb:,.0f} MB")


def read_texts(sources: list[str], limit_mb: float) -> list[str]:
    """Every n-th document of the sources, so that they come to about the limit."""
    num_bytes = sum(len(document.text.encode()) for document in iter_documents(sources))
    step = max(1, round(num_bytes / limit_mb / 1e6))
    return [document.text for document in islice(iter_documents(sources), 0, None, step)]


def time_bare(tokenizer: Tokenizer, texts: list[str]) -> float:
    """Seconds of `encode_batch` on all texts."""
    started_s = time.perf_counter()
    tokenizer.backend.encode_batch(texts, add_special_tokens=False)
    return time.perf_counter() - started_s


def time_build(tokenizer: Tokenizer, source: Path, out_dir: Path) -> float:
    """Seconds of a whole build from JSONL."""
    started_s = time.perf_counter()
    build_shards("benchmark", source, tokenizer, out_dir)
    return time.perf_counter() - started_s


if __name__ == "__main__":
    main()
