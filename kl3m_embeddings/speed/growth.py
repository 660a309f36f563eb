"""How speed and memory grow with each size, the others held."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from transformers import PretrainedConfig

from kl3m_embeddings.speed.sides import Work

FACTORS = (0.25, 0.5, 1, 2, 4)
LENGTHS = (64, 128, 256, 512, 1024)


def points(config: PretrainedConfig, work: Work) -> Iterator[tuple[str, int, Work]]:
    """Each axis's name, the size there, and the work; lengths keep the number of tokens."""
    for size in around(work.batch_size):
        yield "batch", size, replace(work, batch_size=size)
    for length in LENGTHS:
        if length <= work.num_tokens:
            yield (
                "length",
                length,
                replace(work, length=length, batch_size=work.num_tokens // length),
            )
    for size in around(config.num_hidden_layers):
        yield "layers", size, replace(work, num_layers=size)
    for size in around(config.vocab_size):
        yield "vocabulary", size, replace(work, vocab_size=size)


def around(size: int) -> Sequence[int]:
    """Sizes from a quarter to four times of it."""
    return sorted({max(1, round(size * factor)) for factor in FACTORS})
