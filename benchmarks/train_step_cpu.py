"""One full training step on the CPU, transformers' DeBERTa-v2 against ours, side by side.

Both sides do the same work: kl3m-embedding-005's architecture, a batch of 64 x 128 tokens of which
15% are targets, dropout 0.1 everywhere, bf16 autocast over fp32 weights, softmax over all 65,536
rows of the vocabulary, backward, clipping to norm 1, AdamW. Each round runs the sides one after the
other, each in a process of its own, so that the peak memory is its own.

    python benchmarks/train_step_cpu.py --out train_step_cpu.json
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# kl3m-embedding-005 (https://github.com/alea-institute/kl3m-embedding-research), MIT licence.
ARCHITECTURE = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 1024,
    "layer_norm_eps": 1e-07,
    "max_position_embeddings": 128,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "num_attention_heads": 8,
    "num_hidden_layers": 8,
    "pad_token_id": 0,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 128,
    "relative_attention": True,
    "share_att_key": True,
    "type_vocab_size": 0,
    "vocab_size": 65536,
}
BATCH_SIZE, LENGTH, MASK_RATE = 64, 128, 0.15


def prepare(side: str) -> tuple[Callable[[], float], float]:
    """A function that runs one training step and returns its loss, and the step's FLOPs."""
    import torch
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM

    from kl3m_embeddings.encoder.allocator import keep_freed_memory
    from kl3m_embeddings.encoder.build import build_encoder
    from kl3m_embeddings.encoder.flops import training_flops

    torch.manual_seed(0)
    config = DebertaV2Config(**ARCHITECTURE)
    input_ids = torch.randint(1, config.vocab_size, (BATCH_SIZE, LENGTH))
    attention_mask = torch.ones_like(input_ids)
    num_targets = round(MASK_RATE * input_ids.numel())
    positions = torch.randperm(input_ids.numel())[:num_targets].sort().values
    target_labels = input_ids.flatten()[positions]
    labels = torch.full_like(input_ids, -100).flatten().scatter(0, positions, target_labels)

    if side == "transformers":
        model = DebertaV2ForMaskedLM(config).train()

        def loss() -> torch.Tensor:
            return model(input_ids, attention_mask, labels=labels.view_as(input_ids)).loss
    else:
        keep_freed_memory()
        model = build_encoder(config, seed=0).train()

        def loss() -> torch.Tensor:
            states = model.hidden_states(input_ids, attention_mask, positions=positions)
            losses, _ = model.masked_lm_loss(states, target_labels)
            return losses.mean()

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return step, training_flops(config, input_ids.numel(), LENGTH, num_targets)


def product_flops() -> float:
    """The physical limit, operations a second: those of the feed-forward's matrix product alone."""
    import torch

    states, weight = torch.randn(8192, 256).bfloat16(), torch.randn(256, 1024).bfloat16()
    times_s = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(states, weight)
        times_s.append(time.perf_counter() - start)
    return 2 * 8192 * 256 * 1024 / min(times_s)


def measure(side: str, num_steps: int) -> dict[str, float]:
    """Time `num_steps` steps of one side, after one to warm up."""
    step, flops = prepare(side)
    first_loss, times_s = step(), []
    for _ in range(num_steps):
        start = time.perf_counter()
        step()
        times_s.append(time.perf_counter() - start)
    step_s = statistics.median(times_s)
    limit = product_flops()
    return {
        "step_s": step_s,
        "tokens_per_s": BATCH_SIZE * LENGTH / step_s,
        "gflop_per_s": flops / step_s / 1e9,
        "gflop_per_s_limit": limit / 1e9,
        "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "first_loss": first_loss,
    }


def measure_apart(side: str, num_steps: int, num_threads: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(num_steps)]
    # Waiting threads sleep: where they spin, any other process on the machine distorts the times.
    threads = {"OMP_NUM_THREADS": str(num_threads), "OMP_WAIT_POLICY": "PASSIVE"}
    environment = {**os.environ, **threads}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    return result


def compare(num_rounds: int, num_steps: int, num_threads: int) -> dict[str, dict[str, float]]:
    """Medians of each side over alternating rounds."""
    sides: dict[str, list[dict[str, float]]] = {"transformers": [], "ours": []}
    for index in range(num_rounds):
        for side, results in sides.items():
            results.append(measure_apart(side, num_steps, num_threads))
            line = "  ".join(f"{key} {value:.3f}" for key, value in results[-1].items())
            print(f"round {index + 1}  {side:<12}  {line}", flush=True)
    return {
        side: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for side, results in sides.items()
    }


def main() -> None:
    """Compare the sides, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a side in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the medians to this JSON file")
    parser.add_argument("--side", choices=["transformers", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.steps)))
        return
    medians = compare(arguments.rounds, arguments.steps, arguments.threads)
    speed = medians["transformers"]["step_s"] / medians["ours"]["step_s"]
    memory = medians["ours"]["peak_rss_gb"] / medians["transformers"]["peak_rss_gb"]
    print(f"ours runs at {speed:.2f} x the speed, with {memory:.2f} x the peak memory")
    if arguments.out:
        report = {
            "threads": arguments.threads,
            "medians": medians,
            "speed": speed,
            "memory": memory,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
