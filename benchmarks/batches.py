"""Tokens a second of the data path alone: batches out of memory-mapped shards, in one thread.

python benchmarks/batches.py TOKENIZER TEXT --batch-size 64 --length 128
"""

import argparse
import time

from kl3m_embeddings.config.tasks import MlmOptions
from kl3m_embeddings.config.training import OptimizerConfig, TrainingConfig
from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer
from kl3m_embeddings.run.text import open_text
from kl3m_embeddings.tasks.masked.mlm import MaskedLanguageModelling


def main() -> None:
    """Make batches of documents in rows of their own, then of packed ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer")
    parser.add_argument("text")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batches", type=int, default=200)
    arguments = parser.parse_args()
    training = TrainingConfig(
        tokenizer=arguments.tokenizer,
        data={"text": {"path": arguments.text}},
        optimizer=OptimizerConfig(total_steps=10_000),
        tasks={"mlm": 1.0},
    )
    source = open_text(training, load_tokenizer(arguments.tokenizer), arguments.length).train
    size = arguments.batch_size
    for name, packs in (("a document a row", False), ("packed rows", True)):
        task = MaskedLanguageModelling(MlmOptions(probability=1.0, pack=packs))
        start = time.perf_counter()
        task.batch(source, 0, size)
        first_s, num_tokens = time.perf_counter() - start, 0
        start = time.perf_counter()
        for number in range(1, arguments.batches + 1):
            num_tokens += int(task.batch(source, number * size, size).attention_mask.sum())
        seconds = time.perf_counter() - start
        filled = num_tokens / (arguments.batches * size * arguments.length)
        print(
            f"{name}: {num_tokens / seconds / 1e6:.2f} million tokens/s, "
            f"{1000 * seconds / arguments.batches:.2f} ms a batch, {filled:.1%} full, "
            f"the first after {first_s:.2f} s"
        )


if __name__ == "__main__":
    main()
