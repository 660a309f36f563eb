"""`train_deepspeed.py models/x/`: train the model folder on every device that a launcher gives.

The same as train_single.py, with one rank a device. Every rank reads the files; only the first
writes. What goes wrong on one rank ends them all, and is said once.
"""

import argparse
import sys
from collections.abc import Sequence

from kl3m_embeddings.commands import shell
from kl3m_embeddings.commands.train import argument_parser, read_request, run
from kl3m_embeddings.errors import RetryError

OTHER_RANK_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def train(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Join the other ranks, and train with them."""
    from kl3m_embeddings.engine.deepspeed import join_ranks
    from kl3m_embeddings.engine.deepspeed_settings import deepspeed_settings

    ranks = join_ranks()
    with ranks.together():
        request = read_request(
            arguments,
            argv,
            launcher="train_deepspeed.py",
            ranks=ranks,
            engine="deepspeed",
        )
        training = request.training
        deepspeed_settings(training, batch_size=training.batch_size, world_size=ranks.world_size)
    try:
        return run(request)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in OTHER_RANK_GONE):
            raise
        raise RetryError(
            f"{request.folder}: another rank has ended (its own message, or the launcher's, says "
            "why): run the same command again, it goes on from the last checkpoint"
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command on this rank; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv

    def command() -> int:
        parser = argument_parser("train_deepspeed.py")
        parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
        return train(parser.parse_args(argv), argv)

    return shell.run(command, debug="--debug" in argv)
