"""Peak memory of one step of 4,096 pairs x 128 tokens of a MiniLM-size encoder, by GradCache.

    python benchmarks/gradcache_memory.py [--pairs 4096] [--chunk-tokens 8192] [--out RESULT.json]

The texts are random words, all of the full length; the weights are random, too: neither changes
what a step costs. Peak memory is the process's largest resident set, all of it counted: Python,
torch, weights, optimizer.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINILM = ROOT / "models" / "minilm-finetune" / "config.json"
NUM_WORDS = 140  # of a text, each at least one token


def write_pairs(path: Path, words: list[str], num_pairs: int) -> None:
    """A file of pairs of random texts."""
    generator = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(num_pairs):
            query, positive = (" ".join(generator.choices(words, k=NUM_WORDS)) for _ in range(2))
            file.write(json.dumps({"query": query, "positive": [positive]}) + "\n")


def write_model(folder: Path, pairs: Path, arguments: argparse.Namespace) -> None:
    """A model folder that trains for one step."""
    task = {"probability": 1.0, "chunk_tokens": arguments.chunk_tokens}
    training = {
        "tokenizer": str(arguments.tokenizer),
        "pairs": {"random": {"path": str(pairs)}},
        "tasks": {"pairs": task},
        "batch_size": arguments.pairs,
        "max_length": 128,
        "num_eval_samples": 0,
        "optimizer": {"total_steps": 1, "warmup_steps": 0},
    }
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    (folder / "config.json").write_bytes(MINILM.read_bytes())


def main() -> None:
    """Train one step and print what its row in the log says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True, help="a folder; its words are the texts'")
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--chunk-tokens", type=int, default=8192)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        vocabulary = json.loads((Path(arguments.tokenizer) / "tokenizer.json").read_text())
        words = [word for word in vocabulary["model"]["vocab"] if word.isascii() and word.isalpha()]
        write_pairs(folder / "pairs.jsonl", words, arguments.pairs)
        write_model(folder, folder / "pairs.jsonl", arguments)
        command = [sys.executable, str(ROOT / "train_single.py"), str(folder), "--quiet"]
        subprocess.run(command, check=True, cwd=ROOT)
        row = json.loads((folder / "log.jsonl").read_text(encoding="utf-8"))
    kept = ("num_pairs", "num_tokens", "step_time", "token_rate", "device_mb", "loss")
    result = {key: row[key] for key in kept} | {"chunk_tokens": arguments.chunk_tokens}
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
