"""The table of kl3m bench: every number in 80 characters."""

from kl3m_embeddings.commands.bench import table
from kl3m_embeddings.speed.sides import Work

SIDE = {
    "tokens_per_s": 1_234_567.0, "flops": 1e12, "flops_limit": 2e12, "peak_memory_gb": 123.4,
    "step_s": 13.3, "forward_s": 4.1, "backward_s": 8.9, "optimizer_s": 0.3,
}  # fmt: skip


def test_sides_are_beside_the_last_one_and_the_limit():
    sides = {"ours": SIDE, "transformers": SIDE | {"tokens_per_s": 617_283.5, "flops": 5e11}}
    lines = table(sides, Work(batch_size=64, length=128, precision="bfloat16")).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].rstrip() == "64 x 128 tokens, bfloat16; times in ms"
    assert [line.split() for line in lines[-3:-1]] == [
        ["ours", "1,234,567", "2.00", "50", "123.4", "13,300", "4,100", "8,900", "300"],
        ["transformers", "617,284", "1.00", "25", "123.4", "13,300", "4,100", "8,900", "300"],
    ]
    assert lines[-1] == "limit: one large matrix product, 2,000 GFLOP/s"
