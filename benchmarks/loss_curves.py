"""500 steps of masked-language modelling: transformers' eager DeBERTa-v2 and ours, loss by loss.

Every side starts from the same weights and sees the same batches, masks included. Sides:

    eager     transformers in float32
    ours      ours in float32
    bfloat16  ours under bfloat16 autocast, on the CPU through the native kernels

Without dropout the first two must agree to rounding, and the third in distribution. With dropout
(`--dropout 0.1`) no two sides draw the same masks; all three must agree in distribution.

    python benchmarks/loss_curves.py TOKENIZER TEXT --steps 500 --out loss_curves.json
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import DebertaV2Config, DebertaV2ForMaskedLM

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.config.training import OptimizerConfig, TrainingConfig
from kl3m_embeddings.data.batch import Batch
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.engine.single import SingleEngine, seed_generator
from kl3m_embeddings.optim.build import build_optimizers, set_lr
from kl3m_embeddings.run.text import open_text
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling
from kl3m_embeddings.tasks.objective import Objective

BATCH_SIZE, LENGTH, MAX_NORM = 16, 64, 1.0
OPTIMIZER = OptimizerConfig(peak_lr=1e-3, warmup_steps=50, total_steps=10_000)
CPU = torch.device("cpu")


def architecture(vocab_size: int, pad_id: int, dropout: float) -> DebertaV2Config:
    """A small encoder of kl3m-embedding-005's kind."""
    return DebertaV2Config(
        vocab_size=vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=256, max_position_embeddings=LENGTH, relative_attention=True,
        position_buckets=64, pos_att_type=["p2c", "c2p"], share_att_key=True, type_vocab_size=0,
        norm_rel_ebd="layer_norm", position_biased_input=False, layer_norm_eps=1e-7,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, pad_token_id=pad_id,
    )  # fmt: skip


def our_step(config: DebertaV2Config, precision: str) -> Callable[[Batch, float], float]:
    """A function of batch and rate that trains one step, and returns its loss."""
    objective = Objective(build_encoder(config, seed=0), pair_head=False)
    optimizers = build_optimizers(objective.named_parameters(), OPTIMIZER)
    engine = SingleEngine(objective, optimizers, device=CPU, precision=precision)

    def step(batch: Batch, lr: float) -> float:
        loss = engine.forward(batch).loss_sums["mlm"] / batch.counts["mlm"]
        engine.backward(loss, last=True)
        engine.step(lr, torch.tensor(MAX_NORM))
        return loss.item()

    return step


def eager_step(config: DebertaV2Config) -> Callable[[Batch, float], float]:
    """The same of transformers."""
    model = DebertaV2ForMaskedLM(config)
    model.load_state_dict(build_encoder(config, seed=0).network.state_dict())
    optimizers = build_optimizers(model.named_parameters(), OPTIMIZER)

    def step(batch: Batch, lr: float) -> float:
        seed_generator(CPU, int(batch.row_keys[0]) % 2**63)
        model.train()
        real = batch.target_labels >= 0
        labels = torch.full((batch.input_ids.numel(),), -100)
        labels[batch.target_positions[real]] = batch.target_labels[real]
        labels = labels.view_as(batch.input_ids)
        loss = model(batch.input_ids, batch.attention_mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        set_lr(optimizers, lr)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    return step


def main() -> None:
    """Train all sides, and say how far apart their losses are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer")
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    training = TrainingConfig(
        tokenizer=arguments.tokenizer, data={"text": {"path": arguments.text}},
        optimizer=OPTIMIZER, tasks={"mlm": 1.0},
    )  # fmt: skip
    source = open_text(training, tokenizer, LENGTH).train
    task = MaskedLanguageModelling(MlmOptions(probability=1.0))
    config = architecture(-(-tokenizer.vocab_size // 64) * 64, tokenizer.pad_id, arguments.dropout)
    torch.use_deterministic_algorithms(True)
    sides = {
        "eager": eager_step(config),
        "ours": our_step(config, "float32"),
        "bfloat16": our_step(config, "bfloat16"),
    }
    losses: dict[str, list[float]] = {name: [] for name in sides}
    seconds = dict.fromkeys(sides, 0.0)
    for step in range(arguments.steps):
        batch = task.batch(source, step * BATCH_SIZE, BATCH_SIZE)
        seeded = batch.with_dropout(step, 0, BATCH_SIZE)
        lr = OPTIMIZER.peak_lr * min(1.0, (step + 1) / OPTIMIZER.warmup_steps)
        for name, train in sides.items():
            start = time.perf_counter()
            losses[name].append(train(seeded, lr))
            seconds[name] += time.perf_counter() - start
        if step % 50 == 49:
            shown = "  ".join(f"{name} {of_side[-1]:.4f}" for name, of_side in losses.items())
            print(f"step {step + 1}: {shown}", flush=True)
    eager, tail = torch.tensor(losses["eager"]), slice(-100, None)
    for name, of_side in losses.items():
        distance = (torch.tensor(of_side) - eager).abs()
        print(
            f"{name}: {seconds[name]:.0f} s, last 100 steps {sum(of_side[tail]) / 100:.4f}, "
            f"distance from eager: mean {distance.mean():.2e}, largest {distance.max():.2e}"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    main()
