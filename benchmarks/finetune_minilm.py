"""Fine-tuning all-MiniLM-L6-v2 on pairs on the CPU: sentence-transformers against ours.

Both sides get the same pairs, batch size, length, number of steps, schedule, AdamW, clipping,
temperature, dropout and bfloat16. sentence-transformers' side is its trainer with
MultipleNegativesRankingLoss and batches without duplicates, as its documentation shows; ours is
train_single.py. Each round has a seed and runs the sides one after the other, each in a process of
its own. The first steps are not counted, nor are imports, loading, evaluation and saving.

    python benchmarks/finetune_minilm.py --pairs pairs.jsonl --heldout heldout.jsonl --out out.json

What is reported of a side, medians over the rounds:

1. tokens_per_s, pairs_per_s: of the steps as they are: their batches are tokenised in the step,
   ours were before. Tokens are those that are not padding, special ones included.
2. tokens_per_s_with_tokenising, _without: ours pays what tokenising the steps' pairs took when the
   pair set was built; theirs is spared the time that it spent in its collator.
3. ndcg@10 of the held-out pairs before and after, by one code for both: the exported folder, opened
   with SentenceTransformer, in fp32, every query against all positives.
4. peak_rss_gb: the largest resident size up to the last step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from finetune_sides import MAX_LENGTH, MODEL, TRAIN, read_pairs


def score(folder: str, heldout: Path) -> dict[str, float]:
    """Held-out nDCG@10 of an exported model."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from kl3m_embeddings.metrics.ranking import grade_ranking, ndcg_at_k

    model = SentenceTransformer(folder, device="cpu")
    model.max_seq_length = MAX_LENGTH
    pairs = sorted(set(read_pairs(heldout)))
    queries, documents = (sorted(set(column)) for column in zip(*pairs, strict=True))
    vectors = [model.encode(texts, normalize_embeddings=True) for texts in (queries, documents)]
    ranking = np.argsort(-(vectors[0] @ vectors[1].T), axis=1, kind="stable")
    judged = np.array([(queries.index(query), documents.index(text)) for query, text in pairs])
    grades = grade_ranking(ranking, judged[:, 0], judged[:, 1], np.ones(len(judged)))
    return {"ndcg@10": float(ndcg_at_k(grades, 10).mean())}


def run_apart(arguments: argparse.Namespace, *options: str) -> dict[str, Any]:
    """This file in a process of its own; its last line is the result."""
    command = [sys.executable, __file__, "--heldout", str(arguments.heldout), *options]
    threads = {
        "OMP_NUM_THREADS": str(arguments.threads),
        "OMP_WAIT_POLICY": arguments.wait_policy,
        "HF_HUB_OFFLINE": "1",
    }
    output = subprocess.run(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return result


def train_apart(arguments: argparse.Namespace, side: str, seed: int) -> dict[str, Any]:
    """Train one side in a folder that is gone afterwards, and score what came out."""
    with tempfile.TemporaryDirectory() as work:
        numbers = ["--seed", str(seed), "--steps", str(arguments.steps)]
        paths = ["--pairs", str(arguments.pairs), "--work", work]
        result = run_apart(arguments, "--side", side, *numbers, *paths)
        result |= run_apart(arguments, "--score", result.pop("folder"))
    print(f"seed {seed}  {side:<21}  {numbers_line(result)}", flush=True)
    return result


def numbers_line(result: dict[str, float]) -> str:
    """A side's numbers."""
    return "  ".join(f"{key} {value:.4g}" for key, value in result.items())


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rounds of both sides, and their medians."""
    results: dict[str, list[dict[str, float]]] = {side: [] for side in TRAIN}
    for seed in range(arguments.rounds):
        for side in TRAIN:
            results[side].append(train_apart(arguments, side, seed))
    medians = {
        side: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for side, many in results.items()
    }
    theirs, ours = (medians[side] for side in TRAIN)
    return {
        "threads": arguments.threads,
        "wait_policy": arguments.wait_policy,
        "steps": arguments.steps,
        "ndcg@10_before": run_apart(arguments, "--score", MODEL)["ndcg@10"],
        "medians": medians,
        "rounds": results,
        "speed": {
            key: ours[key] / theirs[key]
            for key in ours
            if key.startswith(("tokens_per_s", "pairs_per_s")) and key != "tokens_per_step"
        },
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=Path("data/quickstart/pairs.jsonl"))
    parser.add_argument("--heldout", type=Path, default=Path("data/quickstart/pairs_heldout.jsonl"))
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--steps", type=int, default=100, help="of a side in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--wait-policy", choices=["PASSIVE", "ACTIVE"], default="PASSIVE", help="of both sides"
    )
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--side", choices=TRAIN, help="train one side and print its numbers")
    parser.add_argument("--seed", type=int, default=0, help="with --side")
    parser.add_argument("--work", type=Path, help="with --side: an empty folder")
    parser.add_argument("--score", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Compare the sides, train one, or score a model."""
    arguments = parse_arguments()
    if arguments.score:
        from kl3m_embeddings.files.source import resolve_source

        print(json.dumps(score(str(resolve_source(arguments.score)), arguments.heldout)))
    elif arguments.side:
        print(json.dumps(TRAIN[arguments.side](arguments)))
    else:
        report = compare(arguments)
        for side, medians in report["medians"].items():
            print(f"median  {side:<21}  {numbers_line(medians)}")
        print(f"ndcg@10 before: {report['ndcg@10_before']:.4f}")
        print(f"ours over theirs: {numbers_line(report['speed'])}")
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
