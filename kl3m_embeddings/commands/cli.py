"""`kl3m`: every command of the project. Each command imports what is heavy only when it runs."""

import sys

import typer

from kl3m_embeddings.commands import shell
from kl3m_embeddings.commands.corpus import app as corpus_app
from kl3m_embeddings.commands.quickstart import quickstart
from kl3m_embeddings.commands.tokenizer import app as tokenizer_app

app = typer.Typer(
    name="kl3m",
    help="Train, watch and use text-embedding encoders from model folders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(corpus_app, name="corpus")
app.add_typer(tokenizer_app, name="tokenizer")
app.command()(quickstart)


def main() -> None:
    """Entry point of the `kl3m` script."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]

    def command() -> int:
        # typer's own usage errors exit with 2; a command returns its exit code, or None for 0
        result = app(arguments, standalone_mode=False)
        return int(result or 0)

    sys.exit(shell.run(command, debug=debug))
