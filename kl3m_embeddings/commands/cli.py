"""`kl3m`: every command of the project. Each command imports what is heavy only when it runs."""

import sys

import typer

from kl3m_embeddings.commands import shell
from kl3m_embeddings.commands.bench import bench
from kl3m_embeddings.commands.chunk import chunk
from kl3m_embeddings.commands.corpus import app as corpus_app
from kl3m_embeddings.commands.local_task import app as task_app
from kl3m_embeddings.commands.mteb import mteb
from kl3m_embeddings.commands.quickstart import quickstart
from kl3m_embeddings.commands.svd import svd
from kl3m_embeddings.commands.tokenizer import app as tokenizer_app


def exit_with(code: int | None, **_: object) -> None:
    """End with the code that a command returned; None is 0."""
    raise typer.Exit(code or 0)


app = typer.Typer(
    name="kl3m",
    help="Train, watch and use text-embedding encoders from model folders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    result_callback=exit_with,
)
app.add_typer(corpus_app, name="corpus")
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(task_app, name="task")
app.command()(quickstart)
app.command()(chunk)
app.command()(bench)
app.command()(mteb)
app.command()(svd)

# the launchers parse their own arguments, so that they run where typer is not installed
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=PASSED_ON)
def train(context: typer.Context) -> int:
    """Train a model folder on one device: the same as train_single.py."""
    from kl3m_embeddings.commands.train import main

    return main(context.args)


@app.command(context_settings=PASSED_ON)
def describe(context: typer.Context) -> int:
    """Statistics and plots of a run's log: the same as describe.py."""
    from kl3m_embeddings.commands.describe import main

    return main(context.args)


def main() -> None:
    """Entry point of the `kl3m` script."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]

    def command() -> int:
        app(arguments)  # leaves through SystemExit
        return 0

    sys.exit(shell.run(command, debug=debug))
