"""Training and held-out pairs out of three public collections, for `finetune_minilm.py`.

    python benchmarks/public_pairs.py --medquad qa.jsonl.gz --quora pairs.tsv --out pairs/

- medquad (question, answer): whole diseases are held out, and no held-out answer is trained on.
- quora (a question, its duplicate): questions of held-out pairs are not trained on.
- statutes (title, text of a section): sections are held out; repealed and very short ones left out.
"""

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

HELD_OUT_SHARE = 0.06
MIN_STATUTE_CHARS = 80


def is_held_out(key: str) -> bool:
    """A share of all keys, always the same ones."""
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    return number / 2**64 < HELD_OUT_SHARE


def lines(path: Path) -> Iterator[str]:
    """Lines of a file, gzip or plain; what is no UTF-8 is replaced."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        yield from file


def medquad(path: Path) -> Iterator[tuple[str, str, str]]:
    """Group, query and positive of each row."""
    for line in lines(path):
        row = json.loads(line)
        yield row["focus"].lower(), row["question"], row["text"]


def quora(path: Path) -> Iterator[tuple[str, str, str]]:
    """As `medquad`, of the rows that are labelled as duplicates."""
    for line in lines(path):
        label, first, second, _ = line.rstrip("\n").split("\t")
        if label == "1":
            yield min(first, second), first, second


def statutes(path: Path) -> Iterator[tuple[str, str, str]]:
    """As `medquad`."""
    for line in lines(path):
        row = json.loads(line)
        if len(row["text"]) >= MIN_STATUTE_CHARS and row["title"] and "epealed" not in row["title"]:
            yield row["id"], row["title"], row["text"]


def split(rows: Iterable[tuple[str, str, str]], folder: Path, name: str) -> None:
    """Write NAME.jsonl and NAME_heldout.jsonl; no text is in both."""
    usable = [row for row in rows if all(text.strip() for text in row[1:])]
    held_out = [row for row in usable if is_held_out(row[0])]
    seen = {text for row in held_out for text in row[1:]}
    train = [row for row in usable if not is_held_out(row[0]) and seen.isdisjoint(row[1:])]
    for suffix, chosen in (("", train), ("_heldout", held_out)):
        path = folder / f"{name}{suffix}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for _, query, positive in chosen:
                file.write(json.dumps({"query": query, "positive": [positive]}) + "\n")
        print(f"{path}: {len(chosen):,} pairs")


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    collections = {"medquad": medquad, "quora": quora, "statutes": statutes}
    for name in collections:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, read in collections.items():
        if path := getattr(arguments, name):
            split(read(path), arguments.out, name)


if __name__ == "__main__":
    main()
