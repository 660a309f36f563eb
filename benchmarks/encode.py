"""Texts to vectors on the CPU: sentence-transformers in fp32 and bf16 against ours; mteb's share.

Sides run in turns, each in a process of its own, on the same texts of a local task; loading and a
first small call are not counted. A side's tokens are those that are not padding. The last side
scores the task through mteb and takes the time of it over that of the bare encoding in the same
process. Cosines are to sentence-transformers' fp32 vectors, text by text, and the lowest counts.

    python benchmarks/encode.py MODEL TASK --rounds 3 --out encode.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("st_fp32", "st_bf16", "ours_fp32", "ours_bf16", "mteb")


def read_texts(task: Path) -> list[str]:
    """The documents of a task, or its texts."""
    from kl3m_embeddings.local_tasks.folder import (
        LabelledTexts,
        RankingTexts,
        joined,
        read_local_task,
    )

    content = read_local_task(task).content
    if isinstance(content, RankingTexts):
        return [joined(*document) for document in content.documents.values()]
    if isinstance(content, LabelledTexts):
        return content.texts
    return [*content.first, *content.second]


def measure(side: str, model: str, task: Path, vectors: Path) -> dict[str, Any]:
    """Seconds and tokens of one side; its vectors are written."""
    import torch

    from kl3m_embeddings.data.tokenizer.tokenizer import NUM_SPECIAL
    from kl3m_embeddings.encoder.text_encoder import TextEncoder
    from kl3m_embeddings.files.source import resolve_source

    texts = read_texts(task)
    folder = str(resolve_source(model))
    counting = TextEncoder.load(folder)
    longest, encode_one = counting.model.max_length, counting.model.tokenizer.encode
    num_tokens = sum(min(len(encode_one(text)) + NUM_SPECIAL, longest) for text in texts)
    if side == "mteb":
        return measure_mteb(counting, task) | {"num_tokens": num_tokens, "num_texts": len(texts)}
    if side.startswith("st"):
        from sentence_transformers import SentenceTransformer

        dtype = torch.bfloat16 if side == "st_bf16" else torch.float32
        st = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})

        def encode(some: list[str]) -> Any:  # noqa: ANN401
            found = st.encode(some, convert_to_tensor=True, show_progress_bar=False)
            return found.float().numpy()
    else:
        precision = "bfloat16" if side == "ours_bf16" else "float32"
        encode = TextEncoder.load(folder, precision=precision).encode
    encode(texts[:64])
    started = time.perf_counter()
    found = encode(texts)
    time_s = time.perf_counter() - started
    np.save(vectors, found, allow_pickle=False)
    return {"time_s": time_s, "num_tokens": num_tokens, "num_texts": len(texts)}


def measure_mteb(encoder: Any, task: Path) -> dict[str, Any]:  # noqa: ANN401
    """The time of a whole score, and of the encoding in it."""
    from kl3m_embeddings.benchmark.evaluate_task import evaluate_task
    from kl3m_embeddings.benchmark.local_tasks import local_task
    from kl3m_embeddings.benchmark.model import EmbeddingModel
    from kl3m_embeddings.local_tasks.folder import read_local_task

    encoder.encode(read_texts(task)[:64])
    model = EmbeddingModel(name="model", texts=encoder, prompts={}, quiet=True)
    asked = local_task(read_local_task(task))
    model.begin(asked)
    encoding_s = 0.0
    inner = type(encoder).encode

    def timed(self: Any, texts: Any, **options: Any) -> Any:  # noqa: ANN401
        nonlocal encoding_s
        started = time.perf_counter()
        vectors = inner(self, texts, **options)
        encoding_s += time.perf_counter() - started
        return vectors

    type(encoder).encode = timed
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        scores, _ = evaluate_task(model, asked, Path(folder))
        time_s = time.perf_counter() - started
    return {"time_s": time_s, "encoding_s": encoding_s, "score": scores[0].score}


def lowest_cosine(first: Path, second: Path) -> float:
    """Over the texts."""
    one, other = (np.load(path, allow_pickle=False).astype(np.float64) for path in (first, second))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())


def main() -> None:
    """Run all sides, print medians, write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("task", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--vectors", type=Path)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.model, options.task, options.vectors)))
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for side in SIDES:
                command = [sys.executable, __file__, options.model, str(options.task)]
                command += ["--side", side, "--vectors", f"{folder}/{side}.npy"]
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=True
                )
                runs[side].append(json.loads(done.stdout.splitlines()[-1]))
                print(number, side, runs[side][-1], flush=True)
        exact = Path(folder) / "st_fp32.npy"
        cosines = {
            side: lowest_cosine(exact, Path(folder) / f"{side}.npy")
            for side in SIDES
            if side != "mteb"
        }
    result: dict[str, Any] = {}
    for side, of_side in runs.items():
        time_s = statistics.median(run["time_s"] for run in of_side)
        result[side] = {
            "time_s": time_s,
            "tokens_per_s": of_side[0]["num_tokens"] / time_s,
            "texts_per_s": of_side[0]["num_texts"] / time_s,
            "lowest_cosine": cosines.get(side),
        }
    shares = [run["time_s"] / run["encoding_s"] for run in runs["mteb"]]
    result["mteb"]["over_encoding"] = statistics.median(shares)
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result | {"runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
