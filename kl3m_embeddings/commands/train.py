"""`train_single.py models/x/`: train the model folder on one device, or go on where it stopped."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kl3m_embeddings.commands import shell
from kl3m_embeddings.commands.named import named_values
from kl3m_embeddings.config.read import apply_overrides, parse_training
from kl3m_embeddings.errors import (
    ConfigError,
    RetryError,
    explained,
    first_line,
    is_out_of_memory,
)
from kl3m_embeddings.files.path_kind import why_not
from kl3m_embeddings.files.strict_json import read_json_object
from kl3m_embeddings.messages import warn

if TYPE_CHECKING:
    from kl3m_embeddings.run.setup import RunRequest


def argument_parser(program: str) -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Train the encoder of a model folder; run it again to go on where it stopped.",
    )
    parser.add_argument("folder", type=Path, help="holds config.json and training.json")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=PATH", help="a dataset; repeatable"
    )
    for name, what in (("pairs", "a set of pairs"), ("eval-pairs", "a set of held-out pairs")):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME=PATH",
            help=f"{what}; repeatable",
        )
    parser.add_argument("--tokenizer", metavar="PATH", help="instead of training.json's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=JSON",
        help="replace a field of training.json, as in optimizer.peak_lr=1e-4; repeatable",
    )
    parser.add_argument("--stop-after", type=positive_int, metavar="N", help="stop after N steps")
    parser.add_argument(
        "--restart", action="store_true", help="start at step 0; what is there is put aside"
    )
    parser.add_argument(
        "--resume_from_checkpoint",
        "--resume-from-checkpoint",
        type=Path,
        metavar="PATH",
        help="start from this checkpoint instead of the newest",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--debug", action="store_true", help="show the trace of every error")
    return parser


def positive_int(text: str) -> int:
    """A whole number above zero, for argparse."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def read_request(
    arguments: argparse.Namespace,
    argv: Sequence[str],
    **settings: Any,  # noqa: ANN401
) -> "RunRequest":
    """Check the files first, for errors should come before anything heavy loads.

    Args:
        arguments: the command line.
        argv: the same, as it was given.
        settings: further fields of the request.
    """
    folder: Path = arguments.folder
    if why := why_not(folder, "folder"):
        raise ConfigError(f"{folder}: {why}: name one that holds config.json")
    path = folder / "training.json"
    overrides = list(arguments.set)
    fields = read_json_object(path)
    if arguments.tokenizer:
        fields["tokenizer"] = arguments.tokenizer
    if arguments.data:
        fields["data"] = named_paths("--data", arguments.data)
    if arguments.pairs:
        fields["pairs"] = named_paths("--pairs", arguments.pairs)
    if arguments.eval_pairs:
        held_out = named_paths("--eval-pairs", arguments.eval_pairs)
        fields["eval"] = {**fields.get("eval", {}), "pairs": held_out}
    training = parse_training(apply_overrides(fields, overrides), path)
    if training.endpoint_url:
        warn("endpoint_url is ignored: name datasets in `data`")
    if (folder / "config.json").exists() or training.init_from is None:
        read_json_object(folder / "config.json")

    from kl3m_embeddings.run.setup import RunRequest

    return RunRequest(
        folder=folder,
        training=training,
        restart=arguments.restart,
        resume_from=arguments.resume_from_checkpoint,
        stop_after=arguments.stop_after,
        quiet=arguments.quiet,
        command=argv,
        **settings,
    )


def run(request: "RunRequest") -> int:
    """Train under the folder's lock; 0 when done, 128 + the signal's number when stopped."""
    from kl3m_embeddings.files.lock import LOCK_FILE, folder_lock
    from kl3m_embeddings.run.setup import open_run
    from kl3m_embeddings.train.stop import stop_request

    try:
        is_main = request.ranks.is_main
        lock = folder_lock(request.folder / LOCK_FILE, "trains") if is_main else nullcontext()
        with lock, open_run(request) as trainer, stop_request() as stop:
            trainer.train(stop)
            return stop.exit_code
    except (OSError, MemoryError, RuntimeError) as error:
        raise in_run(error, request) from error


def in_run(error: Exception, request: "RunRequest") -> Exception:
    """What the machine has done to a run, with what helps there; a defect is as it was."""
    training = request.training
    if is_out_of_memory(error):
        return RetryError(
            f"{request.folder}: out of memory at batch_size {training.batch_size} and "
            f"max_length {training.max_length or 'of config.json'}: halve batch_size and double "
            "optimizer.gradient_accumulation_steps, or for embedding tasks set chunk_tokens; the "
            f"checkpoints are as they were ({first_line(error)})"
        )
    known = explained(error, request.folder)
    if known is None:
        return error
    then = "run the command again: it goes on from the last checkpoint"
    return type(known)(f"{known}, and {then}")


def named_paths(option: str, arguments: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """`NAME=PATH` as a section of training.json; a NAME given twice joins its PATHs."""
    named = named_values(arguments, f"{option} NAME=PATH")
    return {name: {"path": paths} for name, paths in named.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv

    def train() -> int:
        parser = argument_parser("train_single.py")
        parser.add_argument("--device", help="cuda, cuda:1, mps or cpu; default: the best there is")
        arguments = parser.parse_args(argv)
        return run(read_request(arguments, argv, device=arguments.device))

    return shell.run(train, debug="--debug" in argv)
