"""Bytes that a training step moves between two ranks, by ZeRO stage, against the formula.

Two ranks on this machine talk over the loopback interface; its byte counter is read before and
after some steps of train_deepspeed.py. What the ranks tell each other beside gradients and weights
(counts, rows of the log) is in it, too.

    python benchmarks/communication.py --out communication.json
    python benchmarks/communication.py --predict

The formula, for P trained numbers of b bytes on N ranks, in bytes that a rank sends: an all-reduce
moves 2 (N-1)/N P b; a reduce-scatter or an all-gather half of that. Stage 0 reduces gradients; 1
and 2 reduce-scatter gradients and all-gather weights; 3 all-gathers weights before the forward and
again before the backward pass, and reduce-scatters gradients.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NUM_RANKS, FIRST_STEP, LAST_STEP = 2, 4, 14
# Assumed in `predict`: bytes/s that a GPU sends, over NVLink in a node of 8 and over one 400 Gb/s
# adapter a GPU between 8 nodes; and a step at 45% of the H200's bf16 products.
NETWORKS = {8: 450e9, 64: 50e9}
PEAK_FLOPS, ASSUMED_SHARE = 790e12, 0.45


def formula(stage: int, num_parameters: int, num_bytes: int, num_ranks: int) -> float:
    """Bytes that a rank sends in a step."""
    half = (num_ranks - 1) / num_ranks * num_parameters * num_bytes
    return half * {0: 2, 1: 2, 2: 2, 3: 3}[stage]


def predict() -> None:
    """On paper: what one step of two models moves, and what that leaves of 8 and 64 GPUs."""
    from transformers import AutoConfig

    from kl3m_embeddings.encoder.flops import training_flops
    from kl3m_embeddings.encoder.folder.load import build_encoder

    small = json.loads((ROOT / "models/kl3m-embedding-005/config.json").read_text())
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    base = {**small, **sizes, "num_hidden_layers": 12, "max_position_embeddings": 512}
    for name, fields, rows, length in (("005", small, 64, 128), ("base", base, 64, 512)):
        config = AutoConfig.for_model(**fields)
        numbers = sum(p.numel() for p in build_encoder(config, seed=0).parameters())
        flops = training_flops(config, rows * length, length, round(0.15 * rows * length))
        compute_s = flops / (ASSUMED_SHARE * PEAK_FLOPS)
        for stage in range(4):
            for num_ranks, rate in NETWORKS.items():
                moved = formula(stage, numbers, 4 if stage == 0 else 2, num_ranks)
                network_s = moved / rate
                print(
                    f"{name}  {numbers / 1e6:.1f}M  stage {stage}  {num_ranks} GPUs  "
                    f"{moved / 1e6:.0f} MB  compute {compute_s * 1e3:.2f} ms  "
                    f"network {network_s * 1e3:.2f} ms  "
                    f"efficiency {compute_s / (compute_s + network_s):.0%} without overlap, "
                    f"{compute_s / max(compute_s, network_s):.0%} with"
                )


def loopback_bytes() -> int:
    """Received so far by the loopback interface, from all processes of this machine."""
    for line in Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    raise OSError("/proc/net/dev: no loopback interface")


def measure_on_this_rank(folder: str, out: str) -> None:
    """Train, and on rank 0 write down the counter after two steps."""
    from kl3m_embeddings.commands import train_deepspeed
    from kl3m_embeddings.engine.deepspeed import DeepSpeedEngine

    seen: dict[int, int] = {}
    plain_step, steps = DeepSpeedEngine.step, [0]

    def step(self: Any, *arguments: Any) -> Any:  # noqa: ANN401
        result = plain_step(self, *arguments)
        steps[0] += 1
        if steps[0] in (FIRST_STEP, LAST_STEP):
            self.ranks.any(False)
            seen[steps[0]] = loopback_bytes()
            self.ranks.any(False)
        return result

    DeepSpeedEngine.step = step  # type: ignore[method-assign]
    code = train_deepspeed.main([folder, "--quiet"])
    if os.environ["RANK"] == "0" and not code:
        moved = (seen[LAST_STEP] - seen[FIRST_STEP]) / (LAST_STEP - FIRST_STEP)
        Path(out).write_text(json.dumps(moved), encoding="utf-8")
    sys.exit(code)


def measure(stage: int, precision: str, tokenizer: str, text: Path) -> dict[str, float]:
    """Two ranks, a small model, this stage."""
    from transformers import AutoConfig

    from kl3m_embeddings.encoder.folder.load import build_encoder

    with tempfile.TemporaryDirectory() as work:
        folder, out = Path(work) / "model", Path(work) / "bytes.json"
        folder.mkdir()
        source = json.loads((ROOT / "models/kl3m-quickstart/config.json").read_text())
        (folder / "config.json").write_text(json.dumps(source))
        training = {
            "tokenizer": tokenizer,
            "data": {"text": {"path": str(text)}},
            "tasks": {"mlm": 1.0},
            "batch_size": 2,
            "num_eval_samples": 0,
            "precision": precision,
            "optimizer": {"total_steps": LAST_STEP + 1, "warmup_steps": 1},
            "deepspeed": {"zero_optimization": {"stage": stage}},
        }
        (folder / "training.json").write_text(json.dumps(training))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(NUM_RANKS), __file__, "--folder", str(folder)]
        subprocess.run([*command, "--out", str(out)], check=True, cwd=ROOT)
        config = AutoConfig.for_model(**source)
        encoder = build_encoder(config, seed=0)
        numbers = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
        size = 4 if precision == "float32" or stage == 0 else 2
        # the counter sees what both ranks received, which is what both sent
        return {
            "stage": stage,
            "num_parameters": numbers,
            "measured_mb": json.loads(out.read_text()) / NUM_RANKS / 1e6,
            "formula_mb": formula(stage, numbers, size, NUM_RANKS) / 1e6,
        }


def main() -> None:
    """Measure every stage, or be one of the ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", default="data/quickstart/tokenizer")
    parser.add_argument("--text", type=Path, default=Path("data/quickstart/docstrings.jsonl"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--predict", action="store_true", help="print the table on paper")
    arguments = parser.parse_args()
    if arguments.predict:
        predict()
        return
    if arguments.folder:
        measure_on_this_rank(arguments.folder, str(arguments.out))
    rows = []
    for precision in ("float32", "bfloat16"):
        for stage in range(4):
            row = measure(stage, precision, arguments.tokenizer, arguments.text.resolve())
            rows.append({"precision": precision, **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
